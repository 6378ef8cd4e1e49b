//! Late records and dead letters as JSON lines.

use super::SideRecord;
use super::civil::push_time;
use super::encode::push_string;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;

/// Appends `record` as one JSON object, without a line's end. What is not known is left out; a payload that is no UTF-8 is
/// written as base64.
pub fn encode_side_record(record: &SideRecord, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"reason\":");
    push_string(out, record.reason.as_str());
    out.extend_from_slice(b",\"topic\":");
    push_string(out, &record.origin.topic);
    write!(out, ",\"partition\":{},\"offset\":{}", record.origin.partition, record.offset)
        .expect("writing to a Vec cannot fail");
    for (name, time) in [("timestamp", record.timestamp), ("watermark", record.watermark)] {
        if let Some(time) = time {
            write!(out, ",\"{name}\":\"").expect("writing to a Vec cannot fail");
            push_time(out, time);
            out.push(b'"');
        }
    }
    if let Some(late_by) = record.late_by {
        write!(out, ",\"late_by_ms\":{}", late_by.as_millis()).expect("writing to a Vec cannot fail");
    }
    if !record.refused_by.is_empty() {
        out.extend_from_slice(b",\"refused_by\":[");
        for (index, name) in record.refused_by.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_string(out, name);
        }
        out.push(b']');
    }
    out.extend_from_slice(b",\"payload\":");
    let encoding = match std::str::from_utf8(&record.payload) {
        Ok(text) => {
            push_string(out, text);
            "utf-8"
        }
        Err(_) => {
            push_string(out, &STANDARD.encode(&record.payload));
            "base64"
        }
    };
    out.extend_from_slice(b",\"payload_encoding\":");
    push_string(out, encoding);
    out.push(b'}');
}

/// What is known of `record` beyond its bytes, as text: the headers that it gets in Kafka. What is not known is left out.
pub(super) fn provenance(record: &SideRecord) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("reason", record.reason.to_string()),
        ("topic", record.origin.topic.to_string()),
        ("partition", record.origin.partition.to_string()),
        ("offset", record.offset.to_string()),
    ];
    fields.extend(record.timestamp.map(|time| ("timestamp", time.to_string())));
    fields.extend(record.watermark.map(|time| ("watermark", time.to_string())));
    fields.extend(record.late_by.map(|span| ("late_by_ms", span.as_millis().to_string())));
    if !record.refused_by.is_empty() {
        fields.push(("refused_by", record.refused_by.join(",")));
    }
    if !record.detail.is_empty() {
        fields.push(("detail", record.detail.clone()));
    }
    fields
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::{Offset, PartitionName, Reason};
    use crate::time::{EventTime, Span};
    use proptest::prelude::*;

    pub(crate) fn late_record(payload: &[u8]) -> SideRecord {
        SideRecord {
            reason: Reason::Late,
            detail: "4.211 s behind what is accepted".into(),
            origin: PartitionName { topic: "feedback-events".into(), partition: 3 },
            offset: Offset(181),
            timestamp: Some(EventTime::from_millis(1_700_000_000_123)),
            watermark: Some(EventTime::from_millis(1_700_000_004_334)),
            late_by: Some(Span::from_millis(4211)),
            refused_by: Vec::new(),
            payload: payload.to_vec(),
            key: Some(b"key".to_vec()),
            headers: vec![("trace".into(), Some(b"abc".to_vec())), ("empty".into(), None)],
        }
    }

    fn encoded(record: &SideRecord) -> String {
        let mut out = Vec::new();
        encode_side_record(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_late_record_is_written_as_documented() {
        let expected = concat!(
            r#"{"reason":"late","topic":"feedback-events","partition":3,"offset":181,"#,
            r#""timestamp":"2023-11-14T22:13:20.123Z","watermark":"2023-11-14T22:13:24.334Z","late_by_ms":4211,"#,
            r#""payload":"{\"id\":1}","payload_encoding":"utf-8"}"#
        );
        assert_eq!(encoded(&late_record(br#"{"id":1}"#)), expected);
    }

    #[test]
    fn definitions_that_refused_a_record_are_named() {
        let record = SideRecord { refused_by: vec!["hourly".into(), "visits".into()], ..late_record(b"1") };
        assert!(encoded(&record).contains(r#","late_by_ms":4211,"refused_by":["hourly","visits"],"payload":"1","#));
        assert!(provenance(&record).contains(&("refused_by", "hourly,visits".to_owned())));
    }

    #[test]
    fn bytes_that_are_no_text_become_base64_and_unknowns_are_left_out() {
        let mut record = late_record(&[0xff, 0, 1]);
        record.reason = Reason::Malformed;
        (record.timestamp, record.watermark, record.late_by) = (None, None, None);
        let expected = concat!(
            r#"{"reason":"malformed","topic":"feedback-events","partition":3,"offset":181,"#,
            r#""payload":"/wAB","payload_encoding":"base64"}"#
        );
        assert_eq!(encoded(&record), expected);
        let names: Vec<_> = provenance(&record).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["reason", "topic", "partition", "offset", "detail"]);
    }

    #[test]
    fn provenance_says_the_same_as_the_line() {
        let record = late_record(b"{}");
        let line: serde_json::Value = serde_json::from_str(&encoded(&record)).unwrap();
        for (name, value) in provenance(&record).into_iter().filter(|(name, _)| *name != "detail") {
            let written = line[name].as_str().map_or_else(|| line[name].to_string(), str::to_owned);
            assert_eq!(written, value, "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_original_bytes_come_back(payload: Vec<u8>) {
            let line: serde_json::Value = serde_json::from_str(&encoded(&late_record(&payload))).unwrap();
            let text = line["payload"].as_str().unwrap();
            let bytes = match line["payload_encoding"].as_str().unwrap() {
                "utf-8" => text.as_bytes().to_vec(),
                _ => STANDARD.decode(text).unwrap(),
            };
            prop_assert_eq!(bytes, payload);
        }
    }
}
