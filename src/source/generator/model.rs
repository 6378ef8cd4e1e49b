//! What the generator pretends is out there: models, regions, and how they behave.

use crate::time::EventTime;
use std::f64::consts::TAU;

/// A language model.
pub(super) struct Model {
    pub name: &'static str,
    /// Share of calls, relative to the others.
    pub popularity: f64,
    /// Median latency at half load, milliseconds.
    pub median_latency_ms: f64,
    /// Spread of the logarithm of latency.
    pub spread: f64,
    /// Price of a thousand input tokens and of a thousand output tokens, dollars.
    pub price_per_1k: (f64, f64),
    /// Median number of output tokens.
    pub output_tokens: f64,
    /// Probability of the best rating.
    pub liked: f64,
}

/// A region, and the hour (UTC) of its busiest time.
pub(super) struct Region {
    pub name: &'static str,
    pub popularity: f64,
    pub busiest_hour: f64,
}

const fn model(
    name: &'static str,
    popularity: f64,
    median_latency_ms: f64,
    spread: f64,
    price_per_1k: (f64, f64),
    output_tokens: f64,
    liked: f64,
) -> Model {
    Model { name, popularity, median_latency_ms, spread, price_per_1k, output_tokens, liked }
}

pub(super) const MODELS: [Model; 8] = [
    model("claude-3-opus", 1.4, 1450.0, 0.45, (0.015, 0.075), 320.0, 0.62),
    model("claude-3-sonnet", 2.2, 640.0, 0.40, (0.003, 0.015), 280.0, 0.55),
    model("claude-3-haiku", 2.8, 210.0, 0.35, (0.00025, 0.00125), 180.0, 0.45),
    model("gpt-4-turbo", 1.8, 1100.0, 0.50, (0.01, 0.03), 300.0, 0.54),
    model("gpt-3.5-turbo", 2.0, 380.0, 0.45, (0.0005, 0.0015), 190.0, 0.38),
    model("gemini-1.5-pro", 1.2, 900.0, 0.55, (0.0035, 0.0105), 260.0, 0.50),
    model("llama-3-70b", 0.9, 520.0, 0.60, (0.0009, 0.0009), 220.0, 0.42),
    model("mistral-large", 0.7, 700.0, 0.50, (0.004, 0.012), 240.0, 0.44),
];

const fn region(name: &'static str, popularity: f64, busiest_hour: f64) -> Region {
    Region { name, popularity, busiest_hour }
}

pub(super) const REGIONS: [Region; 6] = [
    region("us-east-1", 3.4, 18.0),
    region("us-west-2", 2.4, 20.0),
    region("eu-west-1", 1.6, 14.0),
    region("eu-central-1", 1.3, 13.0),
    region("ap-southeast-1", 0.5, 6.0),
    region("ap-northeast-1", 0.6, 5.0),
];

const MILLIS_PER_HOUR: f64 = 3_600_000.0;

/// How busy a place is that is busiest at this hour (UTC): 0.2 to 1, once up and down a day.
pub(super) fn load(busiest_hour: f64, time: EventTime) -> f64 {
    let hour = time.as_millis() as f64 / MILLIS_PER_HOUR;
    0.6 + 0.4 * ((hour - busiest_hour) / 24.0 * TAU).cos()
}

/// How busy the world is, relative to its mean of 1.
pub(super) fn world_load(time: EventTime) -> f64 {
    let (mut now, mut mean) = (0.0, 0.0);
    for region in &REGIONS {
        now += region.popularity * load(region.busiest_hour, time);
        mean += region.popularity * 0.6;
    }
    now / mean
}

/// A group of events: which model, called from where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Caller {
    pub model: usize,
    pub region: usize,
    /// The model's name, numbered where there are more callers than models and regions.
    pub model_name: String,
}

/// The callers of a stream, with the sums of their popularities.
#[derive(Clone, Debug)]
pub(super) struct Callers {
    callers: Vec<Caller>,
    cumulated: Vec<f64>,
}

impl Callers {
    /// That many, at least one. The first 48 are the models in all regions; the next have models named `...-v2`, and so on.
    pub(super) fn new(count: u32) -> Self {
        let combinations = MODELS.len() * REGIONS.len();
        let (mut callers, mut cumulated, mut sum) = (Vec::new(), Vec::new(), 0.0);
        for index in 0..count.max(1) as usize {
            // The diagonal first, so that a few callers already differ in both.
            let (model, region) = (index % MODELS.len(), (index % MODELS.len() + index / MODELS.len()) % REGIONS.len());
            let model_name = match index / combinations {
                0 => MODELS[model].name.to_owned(),
                version => format!("{}-v{}", MODELS[model].name, version + 1),
            };
            sum += MODELS[model].popularity * REGIONS[region].popularity;
            callers.push(Caller { model, region, model_name });
            cumulated.push(sum);
        }
        Self { callers, cumulated }
    }

    /// The caller at this place (0 to 1) of all, each as wide as it is popular.
    pub(super) fn at(&self, place: f64) -> &Caller {
        let sum = self.cumulated.last().copied().unwrap_or_default();
        let index = self.cumulated.partition_point(|cumulated| *cumulated <= place * sum);
        &self.callers[index.min(self.callers.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_is_distinct_and_every_place_has_a_caller() {
        for count in [1, 8, 48, 49, 1000] {
            let callers = Callers::new(count);
            let keys: BTreeSet<_> =
                callers.callers.iter().map(|caller| (caller.model_name.clone(), caller.region)).collect();
            assert_eq!(keys.len(), count as usize);
            assert_eq!(callers.at(0.0), &callers.callers[0]);
            assert_eq!(callers.at(1.0), callers.callers.last().unwrap());
        }
    }

    #[test]
    fn the_day_has_a_shape() {
        let at = |hour: i64| EventTime::from_millis(hour * 3_600_000);
        assert!((load(19.0, at(19)) - 1.0).abs() < 1e-9);
        assert!((load(19.0, at(7)) - 0.2).abs() < 1e-9);
        let loads: Vec<f64> = (0..24).map(|hour| world_load(at(hour))).collect();
        assert!((loads.iter().sum::<f64>() / 24.0 - 1.0).abs() < 1e-9);
        assert!(loads.iter().any(|load| *load > 1.2) && loads.iter().any(|load| *load < 0.8), "{loads:?}");
    }
}
