//! The pages for people and for Prometheus.
//!
//! The model: one thread with a runtime of its own serves every page from memory: the counters of [`ProcessorMetrics`] and a
//! copy of the [`StatusBoard`]. No page asks a worker anything, so neither a slow reader nor a hostile one can hold up the
//! processor; [`limits`] bounds what they can take from other readers.
//!
//! How it fails: an address that cannot be bound is an error when the server is started, before any event is read. After that
//! nothing here ends a run. The server outlives the request to stop, so that people can watch a run end; it ends when the run
//! has, or when its handle is dropped.

mod frontiers;
mod lateness;
mod limits;
mod pages;
mod status_page;
mod views;

use crate::error::{ProcessorError, ProcessorResult};
use crate::metrics::{Phase, ProcessorMetrics, StatusBoard};
use crate::runtime::Control;
use limits::LimitedListener;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often the server looks whether the run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long after the request to stop the pages stay, where no one says that the run has ended.
const LINGER: Duration = Duration::from_secs(10);

/// The running server. Dropping it ends the server.
#[derive(Debug)]
pub struct HttpServer {
    local_addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// The address it listens on, with the port that port 0 became.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until the server has ended by itself: the run is over.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves the pages on `listen`. When this returns, the address is bound.
pub fn serve(
    listen: SocketAddr,
    metrics: ProcessorMetrics,
    board: StatusBoard,
    control: Control,
) -> ProcessorResult<HttpServer> {
    let failed = |error| ProcessorError::io(describe_bind_failure(listen), error);
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let local_addr = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ProcessorError::io("cannot start the runtime of the metrics pages", error))?;
    let listener = {
        let _inside = runtime.enter();
        LimitedListener::new(tokio::net::TcpListener::from_std(listener).map_err(failed)?)
    };
    let pages = pages::router(metrics, board.clone());
    let (stop, stopped) = oneshot::channel();
    let switch = control.clone();
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = async { axum::serve(listener, pages).await } => {}
                _ = stopped => {}
                () = run_over(board, control) => {}
            }
        });
        // Connections that are still open end here; they hold nothing that anyone waits for.
        runtime.shutdown_timeout(Duration::from_millis(100));
    };
    let thread = switch.spawn("http", work)?;
    tracing::info!(target: "processor", "pages on http://{local_addr}/");
    Ok(HttpServer { local_addr, stop: Some(stop), thread: Some(thread) })
}

fn describe_bind_failure(listen: SocketAddr) -> String {
    format!(
        "cannot listen on {listen} for the metrics pages (metrics.listen; another address, port 0 for a free one, or \
         metrics.enabled: false would do)"
    )
}

/// Ends when the run has ended, or has lingered long enough after the request to stop.
async fn run_over(board: StatusBoard, control: Control) {
    let mut lingered = Duration::ZERO;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !control.is_stopping() {
            continue;
        }
        lingered += LOOK_EVERY;
        if lingered >= LINGER || matches!(board.phase(), Phase::Finished | Phase::Failed) {
            return;
        }
    }
}
/// What this process's `/frontiers` says of it, as JSON, for the pages of the other processes.
pub fn own_frontiers(board: &StatusBoard, metrics: &ProcessorMetrics) -> Vec<u8> {
    let snapshot = crate::metrics::observe(board, metrics);
    frontiers::own(&snapshot, crate::time::EventTime::now()).to_string().into_bytes()
}
