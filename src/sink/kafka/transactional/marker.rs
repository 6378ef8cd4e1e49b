//! Markers as records of the progress topic.
//!
//! The key is `{"job":"feedback","shard":"0-1"}`, with the sink's number and the process's index, so that
//! compaction keeps the last marker of each shard. The value is
//! `{"epoch":12,"chunk":3,"outbox":"8d7e59ee00000004","by":6,"generation":7,"run":"00c0ffee00c0ffee","ready":true}`: the first three chunks of
//! epoch 12 are visible, and everything of the epochs before it. `outbox` is the fingerprint of all chunks of that epoch, `by` the
//! start that made the last of them visible. `generation` and `run` are the start that wrote the marker, and `ready` is whether its
//! process has found that it may go on. A job that has delivered
//! nothing yet has `{"epoch":null,"chunk":0,"outbox":null,"by":null,...}`.

use crate::checkpoint::protocol::{Delivered, Marker, OutboxFingerprint, RunId};
use crate::sink::{Generation, Shard};
use crate::time::Epoch;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    #[serde(borrow)]
    job: std::borrow::Cow<'a, str>,
    shard: std::borrow::Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Value {
    epoch: Option<u64>,
    chunk: u32,
    outbox: Option<String>,
    by: Option<u64>,
    generation: u64,
    run: String,
    ready: bool,
}

pub(super) fn encode_key(job: &str, shard: Shard) -> Vec<u8> {
    let key = Key { job: job.into(), shard: shard.to_string().into() };
    serde_json::to_vec(&key).expect("two strings are JSON, and a Vec takes all bytes")
}

pub(super) fn encode_value(marker: &Marker) -> Vec<u8> {
    let hex = |number: u64| format!("{number:016x}");
    let value = Value {
        epoch: marker.delivered.map(|delivered| delivered.epoch.number()),
        chunk: marker.delivered.map_or(0, |delivered| delivered.chunks),
        outbox: marker.delivered.map(|delivered| hex(delivered.outbox.0)),
        by: marker.delivered.map(|delivered| delivered.by.0),
        generation: marker.generation.0,
        run: hex(marker.run.0),
        ready: marker.ready,
    };
    serde_json::to_vec(&value).expect("numbers and strings are JSON, and a Vec takes all bytes")
}

/// The job and the shard; the error says what is wrong.
pub(super) fn decode_key(bytes: &[u8]) -> Result<(String, Shard), String> {
    let key: Key<'_> = serde_json::from_slice(bytes).map_err(|error| format!("its key: {error}"))?;
    let numbers =
        key.shard.split_once('-').and_then(|(sink, process)| Some((sink.parse().ok()?, process.parse().ok()?)));
    let Some((sink, process)) = numbers else {
        return Err(format!("its key: `{}` is not `<sink>-<process>`", key.shard));
    };
    Ok((key.job.into_owned(), Shard { sink, process }))
}

/// The error says what is wrong.
pub(super) fn decode_value(bytes: &[u8]) -> Result<Marker, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("its value: {error}"))?;
    let hex = |name: &str, text: &str| {
        u64::from_str_radix(text, 16).map_err(|_| format!("its value: {name} is `{text}` and no hexadecimal number"))
    };
    let delivered = match (value.epoch, &value.outbox, value.by) {
        (None, ..) => None,
        (Some(epoch), Some(outbox), Some(by)) => Some(Delivered {
            epoch: Epoch::new(epoch),
            chunks: value.chunk,
            outbox: OutboxFingerprint(hex("outbox", outbox)?),
            by: Generation(by),
        }),
        (Some(_), ..) => return Err("its value: an epoch without `outbox` or `by`".to_owned()),
    };
    let (generation, run) = (Generation(value.generation), RunId(hex("run", &value.run)?));
    Ok(Marker { delivered, generation, run, ready: value.ready })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_records() {
        let shard = Shard { sink: 0, process: 1 };
        assert_eq!(encode_key("feedback", shard), br#"{"job":"feedback","shard":"0-1"}"#);
        let (chunks, outbox) = (3, OutboxFingerprint(0x8d7e_59ee_0000_0004));
        let (generation, run) = (Generation(7), RunId(0x00c0_ffee_00c0_ffee));
        let delivered = Some(Delivered { epoch: Epoch::new(12), chunks, outbox, by: Generation(6) });
        let text = r#"{"epoch":12,"chunk":3,"outbox":"8d7e59ee00000004","by":6,"generation":7,"run":"00c0ffee00c0ffee","ready":true}"#;
        assert_eq!(encode_value(&Marker { delivered, generation, run, ready: true }), text.as_bytes());
        let text =
            r#"{"epoch":null,"chunk":0,"outbox":null,"by":null,"generation":7,"run":"00c0ffee00c0ffee","ready":true}"#;
        assert_eq!(encode_value(&Marker { delivered: None, generation, run, ready: true }), text.as_bytes());
    }

    #[test]
    fn what_is_no_marker_says_why() {
        let key = |text: &str| decode_key(text.as_bytes()).unwrap_err();
        assert!(key("shard").contains("its key"), "{}", key("shard"));
        assert!(key(r#"{"job":"a","shard":"one"}"#).contains("`one` is not `<sink>-<process>`"));
        let value = |text: &str| decode_value(text.as_bytes()).unwrap_err();
        assert!(value(r#"{"epoch":1}"#).contains("chunk"), "{}", value(r#"{"epoch":1}"#));
        assert!(value(r#"{"epoch":1,"chunk":0,"generation":1,"run":"1","ready":true}"#).contains("without `outbox`"));
        assert!(
            value(r#"{"epoch":1,"chunk":0,"generation":1,"run":"x","ready":true,"outbox":"1","by":1}"#)
                .contains("run is `x`")
        );
        let later = r#"{"epoch":1,"chunk":0,"generation":1,"run":"1","ready":true,"outbox":"1","by":1,"more":true}"#;
        assert!(decode_value(later.as_bytes()).is_ok(), "what a later version adds is not looked at");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            job in "\\PC*", sink: u16, process: u16, delivered: Option<(u64, u32, u64, u64)>, generation: u64, run: u64, ready: bool,
        ) {
            let shard = Shard { sink, process };
            prop_assert_eq!(decode_key(&encode_key(&job, shard)), Ok((job, shard)));
            let delivered = delivered.map(|(epoch, chunks, outbox, by)| {
                let (outbox, by) = (OutboxFingerprint(outbox), Generation(by));
                Delivered { epoch: Epoch::new(epoch), chunks, outbox, by }
            });
            let marker = Marker { delivered, generation: Generation(generation), run: RunId(run), ready };
            prop_assert_eq!(decode_value(&encode_value(&marker)), Ok(marker));
        }
    }
}
