//! What views contain, computed anew from the results that stand.

use crate::script::{Script, Sent, accumulate};
use llm_optimizer_processor::GroupingKey;
use llm_optimizer_processor::sink::TimeWindow;
use llm_optimizer_processor::time::{EventTime, Time};
use llm_optimizer_processor::view::{
    Baseline, Compare, Figure, Leaderboard, Measure, Regressed, Rollup, View, ViewKind, ViewRow, welch,
};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use timely::PartialOrder;

/// The results that stand at a step.
pub struct Oracle {
    /// With what results say of them.
    sent: Vec<(Sent, Option<Rc<Numbers>>)>,
    facts: BTreeMap<(usize, TimeWindow, GroupingKey), Rc<Numbers>>,
}

type Facts = BTreeMap<(TimeWindow, GroupingKey), Rc<Numbers>>;

/// The numbers behind a result.
struct Numbers {
    all: Vec<f64>,
    /// Count, mean and standard deviation.
    figures: (f64, f64, Option<f64>),
}

/// Count, mean and standard deviation as results have them.
fn figures(numbers: &[f64]) -> (f64, f64, Option<f64>) {
    let (store, id) = accumulate(numbers);
    let mut values = Vec::new();
    store.result(id, &mut values);
    let number = |place: usize| Figure::from(&values[place]).number();
    (number(0).unwrap(), number(2).unwrap(), number(3))
}

fn average(numbers: &Numbers) -> f64 {
    numbers.figures.1
}

fn fields(key: &GroupingKey, keep: impl Fn(&str) -> bool) -> GroupingKey {
    let fields: Vec<_> = key.fields().into_iter().filter(|(name, _)| keep(name)).collect();
    GroupingKey::from_fields(&fields)
}

fn row(window: TimeWindow, key: &GroupingKey, figures: Vec<(&str, Figure)>) -> ViewRow {
    let (names, figures): (Vec<_>, Vec<_>) =
        figures.into_iter().map(|(name, figure)| (std::sync::Arc::<str>::from(name), figure)).unzip();
    ViewRow { window, key: key.clone(), names: names.into(), figures: figures.into() }
}

fn number(number: Option<f64>) -> Figure {
    number.map_or(Figure::Null, Figure::Number)
}

impl Oracle {
    pub fn new(script: &Script) -> Self {
        let with_figures = |sent: &Sent| {
            let numbers = sent.numbers.clone().map(|all| Rc::new(Numbers { figures: figures(&all), all }));
            (sent.clone(), numbers)
        };
        Self { sent: script.sent().map(with_figures).collect(), facts: BTreeMap::new() }
    }

    /// Moves on to a step: what was sent before its event time, in its epoch or earlier ones.
    pub fn advance(&mut self, step: Time) {
        let is_closed = |sent: &Sent| sent.time.less_equal(&step) && sent.time.event_time() < step.event_time();
        self.facts.clear();
        for (sent, numbers) in self.sent.iter().filter(|(sent, _)| is_closed(sent)) {
            let identity = (sent.definition, sent.window, sent.key.clone());
            match numbers {
                Some(numbers) => self.facts.insert(identity, Rc::clone(numbers)),
                None => self.facts.remove(&identity),
            };
        }
    }

    /// The rows of a view whose windows do not end before the horizon.
    pub fn content(&self, view: &View, horizon: EventTime) -> BTreeSet<ViewRow> {
        // What is older matters to no row; this only saves time.
        let needed = horizon.saturating_sub(view.keeps());
        let of_definition =
            |((definition, window, key), numbers): (&(usize, TimeWindow, GroupingKey), &Rc<Numbers>)| {
                let is_needed = *definition == usize::from(view.definition.0) && window.end >= needed;
                is_needed.then(|| ((*window, key.clone()), Rc::clone(numbers)))
            };
        let facts: Facts = self.facts.iter().filter_map(of_definition).collect();
        let rows = match &view.kind {
            ViewKind::Leaderboard(view) => leaderboard(view, &facts),
            ViewKind::Baseline(view) => baseline(view, &facts),
            ViewKind::Rollup(view) => rollup(view, &facts),
            ViewKind::Compare(view) => compare(view, &facts),
            ViewKind::Own(_) => unreachable!("no oracle knows a program"),
        };
        rows.into_iter().filter(|row| row.window.end >= horizon).collect()
    }
}

fn leaderboard(view: &Leaderboard, facts: &Facts) -> Vec<ViewRow> {
    let mut boards: BTreeMap<(TimeWindow, GroupingKey), Vec<(f64, GroupingKey)>> = BTreeMap::new();
    for ((window, key), numbers) in facts {
        let board = fields(key, |name| view.per.iter().any(|per| **per == *name));
        boards.entry((*window, board)).or_default().push((average(numbers), key.clone()));
    }
    let mut rows = Vec::new();
    for ((window, _), mut keys) in boards {
        keys.sort_by(|(mine, key), (theirs, other)| {
            let order = mine.partial_cmp(theirs).unwrap();
            let order = if view.smallest { order } else { order.reverse() };
            order.then_with(|| key.as_json().cmp(other.as_json()))
        });
        for (place, (figure, key)) in keys.into_iter().take(view.top).enumerate() {
            let rank = Figure::Count(place as u64 + 1);
            rows.push(row(window, &key, vec![("rank", rank), (&view.by, Figure::Number(figure))]));
        }
    }
    rows
}

struct Score {
    windows: usize,
    mean: Option<f64>,
    deviation: Option<f64>,
    difference: Option<f64>,
    ratio: Option<f64>,
    z_score: Option<f64>,
}

fn score(view: &Baseline, facts: &BTreeMap<(GroupingKey, i64), f64>, key: &GroupingKey, end: i64) -> Option<Score> {
    let own = facts.get(&(key.clone(), end))?;
    let step = if view.daily { 24 * 60 * 60 * 1000 } else { view.step.as_millis() };
    let earlier = |back: i64| facts.get(&(key.clone(), end - back * step)).copied();
    let before: Vec<f64> = (1..=i64::from(view.count)).rev().filter_map(earlier).collect();
    let size = before.len() as f64;
    let mean = (size > 0.0).then(|| before.iter().sum::<f64>() / size);
    let deviation =
        (size > 1.0).then(|| (before.iter().map(|x| (x - mean.unwrap()).powi(2)).sum::<f64>() / (size - 1.0)).sqrt());
    let difference = mean.map(|mean| own - mean);
    Some(Score {
        windows: before.len(),
        mean,
        deviation,
        difference,
        ratio: mean.filter(|mean| *mean != 0.0).map(|mean| own / mean),
        z_score: deviation.filter(|deviation| *deviation > 0.0).map(|deviation| difference.unwrap() / deviation),
    })
}

fn is_regressed(rule: &Regressed, scores: impl Iterator<Item = Score>) -> bool {
    let mut is_regressed = false;
    for score in scores {
        let measure = match rule.measure {
            Measure::Difference => score.difference,
            Measure::Ratio => score.ratio,
            Measure::ZScore => score.z_score,
        };
        if let Some(measure) = measure {
            let (beyond, back) = match rule.above {
                true => (measure > rule.at, measure <= rule.clear),
                false => (measure < rule.at, measure >= rule.clear),
            };
            is_regressed = beyond || (is_regressed && !back);
        }
    }
    is_regressed
}

fn baseline(view: &Baseline, facts: &Facts) -> Vec<ViewRow> {
    let averages: BTreeMap<(GroupingKey, i64), f64> = facts
        .iter()
        .map(|((window, key), numbers)| ((key.clone(), window.end.as_millis()), average(numbers)))
        .collect();
    let row = |((window, key), numbers): (&(TimeWindow, GroupingKey), &Rc<Numbers>)| {
        let end = window.end.as_millis();
        let own = score(view, &averages, key, end).unwrap();
        let mut figures = vec![
            (&*view.of, Figure::Number(average(numbers))),
            ("baseline_windows", Figure::Count(own.windows as u64)),
            ("baseline_mean", number(own.mean)),
            ("baseline_stddev", number(own.deviation)),
            ("difference", number(own.difference)),
            ("ratio", number(own.ratio)),
            ("z_score", number(own.z_score)),
        ];
        if let Some(rule) = &view.regressed {
            let places = (0..=i64::from(rule.look_back)).rev().map(|back| end - back * view.step.as_millis());
            let scores = places.filter_map(|end| score(view, &averages, key, end));
            figures.push(("regressed", Figure::Truth(is_regressed(rule, scores))));
        }
        self::row(*window, key, figures)
    };
    facts.iter().map(row).collect()
}

fn rollup(view: &Rollup, facts: &Facts) -> Vec<ViewRow> {
    let mut groups: BTreeMap<(TimeWindow, GroupingKey), Vec<f64>> = BTreeMap::new();
    for ((window, key), numbers) in facts {
        let group = fields(key, |name| view.by.iter().any(|by| **by == *name));
        groups.entry((*window, group)).or_default().extend(&numbers.all);
    }
    let row = |((window, key), numbers): (&(TimeWindow, GroupingKey), &Vec<f64>)| {
        let (store, id) = accumulate(numbers);
        let mut values = Vec::new();
        store.result(id, &mut values);
        let figures = crate::script::PLAN.names().iter().map(|name| &**name).zip(values.iter().map(Figure::from));
        self::row(*window, key, figures.collect())
    };
    groups.iter().map(row).collect()
}

fn compare(view: &Compare, facts: &Facts) -> Vec<ViewRow> {
    let rest = |key: &GroupingKey| fields(key, |name| name != &*view.field);
    let value = |key: &GroupingKey| key.fields().into_iter().find(|(name, _)| **name == *view.field).unwrap().1;
    let mut rows = Vec::new();
    for ((window, key), champion) in facts.iter().filter(|((_, key), _)| *value(key) == *view.champion) {
        for ((other, rival), challenger) in facts {
            if other != window || *value(rival) != *view.challenger || rest(rival) != rest(key) {
                continue;
            }
            let (one, two) = (champion.figures, challenger.figures);
            let sample = |(count, mean, deviation): (f64, f64, Option<f64>)| Some((count, mean, deviation?));
            let test = sample(one).zip(sample(two)).and_then(|(one, two)| welch(one, two));
            rows.push(row(
                *window,
                &rest(key),
                vec![
                    ("champion", Figure::Number(one.1)),
                    ("challenger", Figure::Number(two.1)),
                    ("champion_count", Figure::Count(one.0 as u64)),
                    ("challenger_count", Figure::Count(two.0 as u64)),
                    ("difference", Figure::Number(two.1 - one.1)),
                    ("ratio", Figure::Number(two.1 / one.1)),
                    ("t", number(test.map(|test| test.t))),
                    ("degrees_of_freedom", number(test.map(|test| test.freedom))),
                    ("p_value", number(test.map(|test| test.p))),
                ],
            ));
        }
    }
    rows
}
