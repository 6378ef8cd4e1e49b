//! The events of one partition.

use super::model::{Callers, MODELS, REGIONS, load, world_load};
use crate::config::model::GeneratorConfig;
use crate::time::EventTime;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt::Write;

/// Where the generator's own time starts: 2025-01-01T00:00:00Z.
const VIRTUAL_START_MILLIS: i64 = 1_735_689_600_000;

/// How many events a second there are in the generator's own time, over all partitions, on average.
const VIRTUAL_RATE: f64 = 1000.0;

/// One partition's events, in the order in which they are sent.
///
/// It does not wait: [`EventStream::due`] says when the next event is to be sent, and the caller keeps to that if the stream
/// follows the wall clock.
pub struct EventStream {
    rng: ChaCha8Rng,
    callers: Callers,
    /// When the next event is sent, in milliseconds since 1970.
    next_millis: f64,
    /// The mean distance of this partition's events.
    interval_millis: f64,
    /// Whether the distance follows the time of day.
    daily_shape: bool,
    disorder_millis: f64,
    late_share: f64,
    malformed_share: f64,
    remaining: Option<u64>,
    text: String,
}

impl EventStream {
    /// Partition `partition` of the generator. Where there is a rate, the first event is sent at `start`, or a little later in
    /// the other partitions, so that they take turns; without one `start` is of no meaning.
    pub fn new(config: &GeneratorConfig, partition: u32, start: EventTime) -> Self {
        let partitions = config.partitions.get();
        let rate = config.rate.filter(|rate| *rate > 0.0);
        let interval_millis = 1000.0 / rate.unwrap_or(VIRTUAL_RATE) * f64::from(partitions);
        let start = rate.map_or(VIRTUAL_START_MILLIS, |_| start.as_millis()) as f64;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(u64::from(partition));
        Self {
            rng,
            callers: Callers::new(config.keys.get()),
            next_millis: start + interval_millis * f64::from(partition) / f64::from(partitions),
            interval_millis,
            daily_shape: rate.is_none(),
            disorder_millis: config.disorder.as_secs_f64() * 1000.0,
            late_share: config.late_share,
            malformed_share: config.malformed_share,
            remaining: config.count.map(|count| share_of(count, partition, partitions)),
            text: String::new(),
        }
    }

    /// The same stream behind its first `passed` events. Where there is a rate, the next one is sent at `start`, or a little later.
    pub fn behind(config: &GeneratorConfig, partition: u32, start: EventTime, passed: u64) -> Self {
        let interval = Self::new(config, partition, start).interval_millis;
        // The clock is as far behind as the events took, so that the next one is due now.
        let begun = start.as_millis() - (interval * passed as f64).round() as i64;
        let mut stream = Self::new(config, partition, EventTime::from_millis(begun));
        for _ in 0..passed {
            if stream.next_payload().is_none() {
                break;
            }
        }
        stream
    }

    /// When the next event is to be sent; `None` when there is none.
    pub fn due(&self) -> Option<EventTime> {
        (self.remaining != Some(0)).then(|| self.now())
    }

    fn now(&self) -> EventTime {
        EventTime::from_millis(self.next_millis as i64)
    }

    /// The next event's payload, without a newline; `None` when there is none.
    pub fn next_payload(&mut self) -> Option<&[u8]> {
        let now = self.due()?;
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        let pace = if self.daily_shape { world_load(now) } else { 1.0 };
        self.next_millis += self.interval_millis / pace;
        let time = self.timestamp(now);
        self.text.clear();
        self.write_event(time);
        if self.chance(self.malformed_share) {
            self.spoil();
        }
        Some(self.text.as_bytes())
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random::<f64>() < share
    }

    fn timestamp(&mut self, now: EventTime) -> EventTime {
        let mut delay = self.rng.random::<f64>() * self.disorder_millis;
        if self.chance(self.late_share) {
            delay += self.disorder_millis + self.rng.random_range(10_000.0..120_000.0);
        }
        EventTime::from_millis(now.as_millis() - delay as i64)
    }

    /// A number around 0 with a standard deviation of 1 (Box and Muller's method).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.rng.random::<f64>()).ln()).sqrt();
        radius * (self.rng.random::<f64>() * std::f64::consts::TAU).cos()
    }

    /// A place in a region that is awake: asleep ones are passed over, as often as they sleep.
    fn caller_place(&mut self, time: EventTime) -> f64 {
        loop {
            let place = self.rng.random::<f64>();
            let region = &REGIONS[self.callers.at(place).region];
            if self.rng.random::<f64>() < load(region.busiest_hour, time) {
                return place;
            }
        }
    }

    fn write_event(&mut self, time: EventTime) {
        let place = self.caller_place(time);
        let caller = self.callers.at(place);
        let (model, region) = (&MODELS[caller.model], &REGIONS[caller.region]);
        let load = load(region.busiest_hour, time);
        let input_tokens = (700.0 * (0.9 * self.normal()).exp()).clamp(8.0, 32_000.0).round();
        let output_tokens = (model.output_tokens * (0.6 * self.normal()).exp()).clamp(1.0, 4096.0).round();
        // A long answer takes longer, and so does a busy hour.
        let length = 0.5 + 0.5 * output_tokens / model.output_tokens;
        let latency_ms = model.median_latency_ms * length * (0.7 + 0.5 * load) * (model.spread * self.normal()).exp();
        let (input_price, output_price) = model.price_per_1k;
        let cost = (input_tokens * input_price + output_tokens * output_price) / 1000.0;
        let rating = if self.chance(model.liked) { 5 } else { self.rng.random_range(1..=4) };
        let (id, user): (u64, u32) = (self.rng.random(), self.rng.random_range(0..10_000));
        let caller = self.callers.at(place);
        write!(
            self.text,
            "{{\"id\":\"{id:016x}\",\"timestamp\":\"{time}\",\"source\":\"observatory\",\"event_type\":\"metric\",\"data\":\
             {{\"model\":\"{}\",\"region\":\"{}\",\"latency_ms\":{latency_ms:.3},\"cost_usd\":{cost:.6},\
             \"input_tokens\":{input_tokens},\"output_tokens\":{output_tokens},\"rating\":{rating}}},\
             \"metadata\":{{\"user\":\"u{user}\"}}}}",
            caller.model_name, region.name
        )
        .expect("writing to a String does not fail");
    }

    /// Makes the payload a bad record, in one of the ways that are seen in practice.
    fn spoil(&mut self) {
        match self.rng.random_range(0..6) {
            0 => self.text.truncate(self.rng.random_range(1..self.text.len())),
            1 => self.text = "<html><body>502 Bad Gateway</body></html>".to_owned(),
            2 => self.text = self.text.replacen("\"timestamp\":", "\"time\":", 1),
            3 => self.text = self.text.replacen("\"data\":{", "\"data\":[],\"payload\":{", 1),
            4 => self.text = self.text.replacen("\"source\":\"observatory\",\"event_type\"", "\"kind\"", 1),
            // What some serializers write for a number that is none.
            _ => self.text = self.text.replacen("\"latency_ms\":", "\"latency_ms\":NaN,\"latency\":", 1),
        }
    }
}

/// The share of partition `partition` in `count`: as even as it can be, the first ones get what is left over.
fn share_of(count: u64, partition: u32, partitions: u32) -> u64 {
    count / u64::from(partitions) + u64::from(u64::from(partition) < count % u64::from(partitions))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::model::{EventConfig, FieldPath, KeyField, TimestampFormat, ValueFields};
    use crate::event::{Decoder, JsonDecoder, Reason, RowScratch};
    use std::collections::{BTreeMap, BTreeSet};
    use std::num::NonZeroU32;
    use std::time::Duration;

    pub(in crate::source::generator) fn config() -> GeneratorConfig {
        GeneratorConfig {
            rate: None,
            count: Some(20_000),
            keys: NonZeroU32::new(48).unwrap(),
            seed: 7,
            disorder: Duration::from_secs(5),
            late_share: 0.0,
            malformed_share: 0.0,
            partitions: NonZeroU32::new(1).unwrap(),
        }
    }

    fn payloads(config: &GeneratorConfig, partition: u32) -> Vec<Vec<u8>> {
        let mut stream = EventStream::new(config, partition, EventTime::from_millis(1_790_000_000_000));
        std::iter::from_fn(|| stream.next_payload().map(<[u8]>::to_vec)).collect()
    }

    fn decoder() -> JsonDecoder {
        let field = |path: &str| KeyField { path: FieldPath::parse(path), name: path.to_owned(), default: None };
        JsonDecoder::new(&EventConfig {
            timestamp_field: FieldPath::parse("timestamp"),
            timestamp_format: TimestampFormat::Rfc3339,
            key: vec![field("data.model"), field("data.region"), field("source")],
            values: ValueFields::EveryNumberUnder(FieldPath::parse("data")),
            filter: Vec::new(),
        })
    }

    /// Times in the order sent, keys, and bad records by reason.
    fn read(payloads: &[Vec<u8>]) -> (Vec<i64>, BTreeSet<Vec<u8>>, BTreeMap<Reason, usize>) {
        let (mut decoder, mut row) = (decoder(), RowScratch::default());
        let (mut times, mut keys, mut bad) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        for payload in payloads {
            row.clear();
            match decoder.decode(payload, &mut row) {
                Ok(_) => {
                    times.push(row.time.as_millis());
                    keys.insert(row.key.clone());
                }
                Err(error) => *bad.entry(error.reason).or_default() += 1,
            }
        }
        (times, keys, bad)
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes_and_another_does_not() {
        let config = GeneratorConfig { late_share: 0.01, malformed_share: 0.01, ..config() };
        assert_eq!(payloads(&config, 0), payloads(&config, 0));
        assert_ne!(payloads(&config, 0), payloads(&GeneratorConfig { seed: 8, ..config.clone() }, 0));
    }

    #[test]
    fn events_are_complete_and_no_further_out_of_order_than_asked() {
        let (times, keys, bad) = read(&payloads(&config(), 0));
        assert_eq!((times.len(), keys.len(), bad.len()), (20_000, 48, 0));
        let mut latest = i64::MIN;
        let worst = times.iter().map(|time| {
            latest = latest.max(*time);
            latest - time
        });
        let worst = worst.max().unwrap();
        assert!((4_000..=5_000).contains(&worst), "{worst}");
        assert!(times[0] > VIRTUAL_START_MILLIS - 5_001 && times[0] <= VIRTUAL_START_MILLIS);
    }

    #[test]
    fn behind_some_events_come_those_that_would_have_come_next() {
        let config = GeneratorConfig { late_share: 0.01, malformed_share: 0.01, count: Some(3_000), ..config() };
        let all = payloads(&config, 0);
        for passed in [0, 1, 1_000, 2_999, 3_000, 5_000] {
            let mut stream = EventStream::behind(&config, 0, EventTime::from_millis(1), passed);
            let rest: Vec<Vec<u8>> = std::iter::from_fn(|| stream.next_payload().map(<[u8]>::to_vec)).collect();
            assert!(rest == all[all.len().min(passed as usize)..], "{passed}");
        }
    }

    #[test]
    fn with_a_rate_the_next_event_is_due_at_once_and_the_count_goes_on() {
        let config = GeneratorConfig { rate: Some(100.0), count: Some(50), disorder: Duration::ZERO, ..config() };
        let now = EventTime::from_millis(1_790_000_000_000);
        let mut stream = EventStream::behind(&config, 0, now, 40);
        assert_eq!(stream.due(), Some(now));
        assert!(String::from_utf8_lossy(stream.next_payload().unwrap()).contains(&now.to_string()));
        assert_eq!(std::iter::from_fn(|| stream.next_payload().map(|_| ())).count(), 9);
    }

    #[test]
    fn shares_of_late_and_bad_events_are_kept() {
        let config = GeneratorConfig { late_share: 0.05, malformed_share: 0.02, ..config() };
        let (times, _, bad) = read(&payloads(&config, 0));
        let bad_count: usize = bad.values().sum();
        assert!((300..500).contains(&bad_count), "{bad_count}");
        let reasons: Vec<Reason> = bad.into_keys().collect();
        assert_eq!(reasons, [Reason::Malformed, Reason::MissingTimestamp, Reason::MissingKey]);
        let mut latest = i64::MIN;
        let late = times.iter().filter(|time| {
            latest = latest.max(**time);
            latest - **time > 10_000
        });
        let late = late.count();
        assert!((850..1150).contains(&late), "{late}");
    }

    #[test]
    fn a_rate_follows_the_clock_and_partitions_take_turns() {
        let config = GeneratorConfig {
            rate: Some(100.0),
            count: Some(10),
            partitions: NonZeroU32::new(4).unwrap(),
            disorder: Duration::ZERO,
            ..config()
        };
        let start = EventTime::from_millis(1_790_000_000_000);
        let mut due = Vec::new();
        for partition in 0..4 {
            let mut stream = EventStream::new(&config, partition, start);
            while let Some(time) = stream.due() {
                due.push(time.as_millis() - start.as_millis());
                assert!(String::from_utf8_lossy(stream.next_payload().unwrap()).contains(&time.to_string()));
            }
            assert!(stream.next_payload().is_none());
        }
        due.sort_unstable();
        assert_eq!(due, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    }

    #[test]
    fn more_keys_than_models_and_regions_are_numbered() {
        let config = GeneratorConfig { keys: NonZeroU32::new(100).unwrap(), ..config() };
        let (_, keys, _) = read(&payloads(&config, 0));
        assert_eq!(keys.len(), 100);
        assert!(keys.iter().any(|key| String::from_utf8_lossy(key).contains("-v2")));
    }
}
