//! Markers as records of the progress topic.
//!
//! The key is `{"job":"feedback","shard":"0-1"}`, with the sink's number and the process's index, so that
//! compaction keeps the last marker of each shard. The value is
//! `{"epoch":12,"chunk":3,"generation":7,"run":"00c0ffee00c0ffee","outbox":"8d7e59ee00000004"}`: the first three chunks of epoch 12
//! are visible, and everything of the epochs before it. `outbox` is the fingerprint of all chunks of that epoch, `generation`
//! and `run` are the start that wrote it. A job that has delivered nothing yet has `{"epoch":null,"chunk":0,...}`.

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
    generation: u64,
    run: String,
    outbox: Option<String>,
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
        generation: marker.generation.0,
        run: hex(marker.run.0),
        outbox: marker.delivered.map(|delivered| hex(delivered.outbox.0)),
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
    let delivered = match (value.epoch, &value.outbox) {
        (None, _) => None,
        (Some(_), None) => return Err("its value: an epoch without `outbox`".to_owned()),
        (Some(epoch), Some(outbox)) => Some(Delivered {
            epoch: Epoch::new(epoch),
            chunks: value.chunk,
            outbox: OutboxFingerprint(hex("outbox", outbox)?),
        }),
    };
    Ok(Marker { delivered, generation: Generation(value.generation), run: RunId(hex("run", &value.run)?) })
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
        let delivered = Some(Delivered { epoch: Epoch::new(12), chunks, outbox });
        let text = r#"{"epoch":12,"chunk":3,"generation":7,"run":"00c0ffee00c0ffee","outbox":"8d7e59ee00000004"}"#;
        assert_eq!(encode_value(&Marker { delivered, generation, run }), text.as_bytes());
        let text = r#"{"epoch":null,"chunk":0,"generation":7,"run":"00c0ffee00c0ffee","outbox":null}"#;
        assert_eq!(encode_value(&Marker { delivered: None, generation, run }), text.as_bytes());
    }

    #[test]
    fn what_is_no_marker_says_why() {
        let key = |text: &str| decode_key(text.as_bytes()).unwrap_err();
        assert!(key("shard").contains("its key"), "{}", key("shard"));
        assert!(key(r#"{"job":"a","shard":"one"}"#).contains("`one` is not `<sink>-<process>`"));
        let value = |text: &str| decode_value(text.as_bytes()).unwrap_err();
        assert!(value(r#"{"epoch":1}"#).contains("chunk"), "{}", value(r#"{"epoch":1}"#));
        assert!(value(r#"{"epoch":1,"chunk":0,"generation":1,"run":"1"}"#).contains("without `outbox`"));
        assert!(value(r#"{"epoch":1,"chunk":0,"generation":1,"run":"x","outbox":"1"}"#).contains("run is `x`"));
        let later = r#"{"epoch":1,"chunk":0,"generation":1,"run":"1","outbox":"1","more":true}"#;
        assert!(decode_value(later.as_bytes()).is_ok(), "what a later version adds is not looked at");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            job in "\\PC*", sink: u16, process: u16, delivered: Option<(u64, u32, u64)>, generation: u64, run: u64,
        ) {
            let shard = Shard { sink, process };
            prop_assert_eq!(decode_key(&encode_key(&job, shard)), Ok((job, shard)));
            let delivered = delivered.map(|(epoch, chunks, outbox)| {
                Delivered { epoch: Epoch::new(epoch), chunks, outbox: OutboxFingerprint(outbox) }
            });
            let marker = Marker { delivered, generation: Generation(generation), run: RunId(run) };
            prop_assert_eq!(decode_value(&encode_value(&marker)), Ok(marker));
        }
    }
}
