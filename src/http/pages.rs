//! The routes, and what each answers.

use super::{frontiers, lateness, status_page, views};
use crate::metrics::{
    HealthLevel, ProcessorMetrics, Snapshot, StatusBoard, export_snapshot, health, observe, readiness,
};
use crate::time::EventTime;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;

/// The pages, by path, with a line about each.
pub(super) const PAGES: [(&str, &str); 7] = [
    ("/status", "the run at a glance"),
    ("/frontiers", "how far each operator and partition is, and who holds the frontier back (JSON)"),
    ("/lateness", "how far events were out of order, and which max_out_of_orderness would do (JSON)"),
    ("/views", "the views over results; /views/NAME is the content of one (JSON)"),
    ("/metrics", "counters for Prometheus"),
    ("/health", "whether the run is well (JSON)"),
    ("/ready", "whether events flow (JSON)"),
];

#[derive(Clone)]
struct Shared {
    metrics: ProcessorMetrics,
    board: StatusBoard,
}

impl Shared {
    fn look(&self) -> (Snapshot, EventTime) {
        (observe(&self.board, &self.metrics), EventTime::now())
    }
}

pub(super) fn router(metrics: ProcessorMetrics, board: StatusBoard) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/status", get(status))
        .route("/frontiers", get(frontiers))
        .route("/lateness", get(lateness_page))
        .route("/views", get(views_page))
        .route("/views/{name}", get(view_page))
        .route("/metrics", get(metrics_page))
        .route("/health", get(health_page))
        .route("/ready", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Shared { metrics, board })
}

async fn index() -> Html<String> {
    Html(status_page::index())
}

async fn status(State(shared): State<Shared>) -> Response {
    let (snapshot, now) = shared.look();
    fresh(Html(status_page::render(&snapshot, now)))
}

async fn frontiers(State(shared): State<Shared>) -> Response {
    let (snapshot, now) = shared.look();
    fresh(Json(frontiers::document(&snapshot, now)))
}

async fn lateness_page(State(shared): State<Shared>) -> Response {
    let (snapshot, now) = shared.look();
    fresh(Json(lateness::document(&snapshot, now)))
}

async fn views_page(State(shared): State<Shared>) -> Response {
    fresh(Json(views::list(&shared.board.views())))
}

async fn view_page(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let board = shared.board.views();
    match board.find(&name) {
        Some(shown) => fresh(Json(views::content(&shown))),
        None => {
            let names: Vec<_> = board.list().into_iter().map(|(shown, _)| shown.name.to_string()).collect();
            let answer = json!({"error": format!("there is no view {name}"), "views": names});
            (StatusCode::NOT_FOUND, fresh(Json(answer))).into_response()
        }
    }
}

async fn metrics_page(State(shared): State<Shared>) -> Response {
    let (snapshot, now) = shared.look();
    export_snapshot(&snapshot, &shared.metrics, now);
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([content_type], shared.metrics.render()).into_response()
}

async fn health_page(State(shared): State<Shared>) -> Response {
    let (snapshot, now) = shared.look();
    let answer = health(&snapshot, now);
    let code = if answer.level == HealthLevel::Failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = json!({
        "status": answer.level.as_str(),
        "phase": snapshot.phase.as_str(),
        "reasons": answer.reasons,
    });
    fresh((code, Json(body)))
}

async fn ready(State(shared): State<Shared>) -> Response {
    let (snapshot, _) = shared.look();
    match readiness(&snapshot) {
        Ok(()) => fresh(Json(json!({"ready": true}))),
        Err(reason) => fresh((StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason})))),
    }
}

async fn not_found(uri: Uri) -> Response {
    let pages: Vec<&str> = PAGES.iter().map(|(path, _)| *path).collect();
    let body = json!({"error": format!("there is no page {}", uri.path()), "pages": pages});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let body = json!({"error": format!("{} can only be read with GET, not {method}", uri.path())});
    (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
}

/// No one on the way may keep a copy.
fn fresh(response: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], response).into_response()
}
