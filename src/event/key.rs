//! Grouping keys and key groups.
//!
//! A key is the canonical JSON text of its fields, in the order of the configuration: that text is its identity in windows, in
//! Kafka record keys and in checkpoints, so there is nothing to collide. Its key group is a stable hash of the text.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// How many key groups a job has: the unit of ownership and of rescaling.
pub const KEY_GROUPS: u32 = 256;

/// One of the [`KEY_GROUPS`] classes into which keys fall, the same in every run and build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroup(pub u32);

impl KeyGroup {
    /// The worker among `peers` that owns this key group: contiguous ranges, as even as they can be.
    pub fn owner(self, peers: usize) -> crate::event::WorkerIndex {
        crate::event::WorkerIndex((self.0 as u64 * peers as u64 / KEY_GROUPS as u64) as u32)
    }
}

/// The key of a group of events: named fields with scalar values, as canonical JSON text.
///
/// Cloning it copies a pointer.
#[derive(Clone, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "equal are those with equal text, by a shorter way")]
pub struct GroupingKey(Arc<str>);

/// Where the text is the same one, it need not be looked at: most keys that are compared come from one place.
impl PartialEq for GroupingKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Ord for GroupingKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for GroupingKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl GroupingKey {
    /// A key of string fields, in the given order.
    ///
    /// ```
    /// use llm_optimizer_processor::GroupingKey;
    /// let key = GroupingKey::from_fields(&[("model", "claude-3-opus"), ("region", "us-west-2")]);
    /// assert_eq!(key.as_json(), r#"{"model":"claude-3-opus","region":"us-west-2"}"#);
    /// ```
    pub fn from_fields<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> Self {
        let mut json = String::from("{");
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            push_json_string(&mut json, name.as_ref());
            json.push(':');
            push_json_string(&mut json, value.as_ref());
        }
        json.push('}');
        GroupingKey(json.into())
    }

    /// The key of the one group of `key: []`.
    pub fn everything() -> Self {
        GroupingKey("{}".into())
    }

    /// From text that is already canonical: an object with scalar members and no white space between tokens.
    pub fn from_canonical_json(json: impl Into<Arc<str>>) -> Self {
        GroupingKey(json.into())
    }

    /// The canonical JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The fields in the key's order, with their values as text (strings without quotes, other scalars as JSON writes them).
    pub fn fields(&self) -> Vec<(String, String)> {
        let members = serde_json::from_str::<Members>(&self.0).map_or_else(|_| Vec::new(), |members| members.0);
        let text = |value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        members.into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    /// The key of the fields for which `keep` says so, in the same order, with their values as they are.
    pub fn of_fields(&self, mut keep: impl FnMut(&str) -> bool) -> GroupingKey {
        let members = serde_json::from_str::<Members>(&self.0).map_or_else(|_| Vec::new(), |members| members.0);
        let mut json = String::from("{");
        for (name, value) in members.into_iter().filter(|(name, _)| keep(name)) {
            if json.len() > 1 {
                json.push(',');
            }
            push_json_string(&mut json, &name);
            json.push(':');
            json.push_str(&value.to_string());
        }
        json.push('}');
        GroupingKey(json.into())
    }

    /// The key group: 64-bit FNV-1a of the text, folded, modulo [`KEY_GROUPS`]. It is part of the checkpoint format.
    pub fn key_group(&self) -> KeyGroup {
        let hash = self.fnv();
        KeyGroup((((hash >> 32) ^ hash) % u64::from(KEY_GROUPS)) as u32)
    }

    /// 64-bit FNV-1a of the text: the same in every run and build.
    pub(crate) fn fnv(&self) -> u64 {
        fnv(self.0.as_bytes())
    }
}

/// 64-bit FNV-1a.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The members of an object in the order in which they are written.
struct Members(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> serde::de::Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn push_json_string(json: &mut String, text: &str) {
    json.push_str(&serde_json::to_string(text).expect("a str is always a JSON string"));
}

impl fmt::Display for GroupingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let key = GroupingKey::from_fields(&[("a\"b", "line\nend")]);
        assert_eq!(key.as_json(), r#"{"a\"b":"line\nend"}"#);
        assert_eq!(key.fields(), vec![("a\"b".to_string(), "line\nend".to_string())]);
    }

    #[test]
    fn fields_keep_their_order() {
        let key = GroupingKey::from_canonical_json(r#"{"region":"eu","model":"opus","tier":3,"beta":true}"#);
        let fields = [("region", "eu"), ("model", "opus"), ("tier", "3"), ("beta", "true")];
        assert_eq!(key.fields(), fields.map(|(name, value)| (name.to_string(), value.to_string())));
    }

    #[test]
    fn every_worker_owns_a_fair_share_of_the_key_groups() {
        for peers in [1usize, 2, 3, 8, 255, 256] {
            let mut owned = vec![0u32; peers];
            for group in 0..KEY_GROUPS {
                owned[KeyGroup(group).owner(peers).0 as usize] += 1;
            }
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(most - least <= 1, "{peers}: {owned:?}");
        }
    }

    /// A change of the number would orphan every checkpoint.
    #[test]
    fn the_key_group_of_a_text_never_changes() {
        let key = GroupingKey::from_fields(&[("model", "claude-3-opus"), ("region", "us-west-2")]);
        assert_eq!(key.key_group(), KeyGroup(115));
    }
}
