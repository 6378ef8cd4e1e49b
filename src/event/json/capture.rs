//! One pass over a record: checks all of it, and notes where the wanted values are.
//!
//! Where a member name occurs twice in one object, the last one counts, as in serde_json's maps and most other readers; also
//! for a whole object: its first occurrence then counts for nothing.

use super::cursor::{Cursor, MAX_DEPTH, Stop, SyntaxError};
use super::plan::{NodeIndex, Plan};
use super::raw::{Kind, Raw, unescape_into};

/// A number directly under the object whose every number is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedNumber {
    /// The member's name, a string.
    pub name: Raw,
    pub number: Raw,
}

/// What a pass found. Reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Captured {
    /// One value a slot of the plan.
    pub slots: Vec<Raw>,
    /// The numbers of the object whose every number is wanted, in the record's order.
    pub numbers: Vec<NamedNumber>,
    /// For member names with escapes.
    name_buffer: Vec<u8>,
}

/// Reads a record, which must be valid UTF-8 and shorter than [`super::raw::MAX_LENGTH`].
pub(super) fn capture(plan: &Plan, record: &[u8], captured: &mut Captured) -> Result<(), SyntaxError> {
    captured.slots.clear();
    captured.slots.resize(plan.slot_count, Raw::ABSENT);
    captured.numbers.clear();
    let mut pass = Pass { plan, captured, cursor: Cursor::new(record) };
    pass.record().map_err(|Stop| pass.cursor.syntax_error())
}

struct Pass<'r> {
    plan: &'r Plan,
    captured: &'r mut Captured,
    cursor: Cursor<'r>,
}

impl Pass<'_> {
    fn record(&mut self) -> Result<(), Stop> {
        if self.cursor.token() != b'{' {
            return self.no_object();
        }
        self.object(0, 0)?;
        self.cursor.token();
        if self.cursor.at_end() { Ok(()) } else { self.cursor.error("nothing after the object") }
    }

    /// A record that is no object is malformed; the message tells JSON from what is none.
    fn no_object(&mut self) -> Result<(), Stop> {
        let start = self.cursor.position();
        if !self.cursor.at_end() {
            self.cursor.value(0)?;
            self.cursor.back_to(start);
        }
        self.cursor.error("an object")
    }

    /// Reads the object that the cursor is on, at `depth` containers around it.
    fn object(&mut self, node: NodeIndex, depth: u32) -> Result<(), Stop> {
        if depth >= MAX_DEPTH {
            return self.cursor.error("at most 127 levels of nesting");
        }
        let plan = self.plan;
        let members = &plan.nodes[node as usize];
        self.cursor.advance();
        if self.cursor.token() == b'}' {
            self.cursor.advance();
            return Ok(());
        }
        loop {
            let name = self.cursor.member_name()?;
            let child = if name.kind() == Kind::String {
                members.child(name.bytes(self.cursor.text()))
            } else {
                self.captured.name_buffer.clear();
                unescape_into(name.bytes(self.cursor.text()), &mut self.captured.name_buffer);
                members.child(&self.captured.name_buffer)
            };
            let value = match child {
                Some(child) => self.wanted(child, depth + 1)?,
                None => self.cursor.value(depth + 1)?,
            };
            if members.every_number {
                self.named_number(name, value);
            }
            match self.cursor.token() {
                b',' => self.cursor.advance(),
                b'}' => {
                    self.cursor.advance();
                    return Ok(());
                }
                _ => return self.cursor.error("',' or '}'"),
            }
        }
    }

    /// Reads the value of a member that is wanted or has wanted members.
    #[inline(always)]
    fn wanted(&mut self, node: NodeIndex, depth: u32) -> Result<Raw, Stop> {
        let plan = self.plan;
        let wanted = &plan.nodes[node as usize];
        let value = if wanted.has_members() {
            self.captured.slots[wanted.slots_below.clone()].fill(Raw::ABSENT);
            if wanted.every_number {
                self.captured.numbers.clear();
            }
            if self.cursor.token() == b'{' {
                let start = self.cursor.position();
                self.object(node, depth)?;
                Raw::new(Kind::Object, start, self.cursor.position())
            } else {
                self.cursor.value(depth)?
            }
        } else {
            self.cursor.value(depth)?
        };
        if let Some(slot) = wanted.slot {
            self.captured.slots[slot.0] = value;
        }
        Ok(value)
    }

    /// Notes a member of the object whose every number is wanted.
    #[inline(always)]
    fn named_number(&mut self, name: Raw, value: Raw) {
        if value.kind() == Kind::Number {
            self.captured.numbers.push(NamedNumber { name, number: value });
        } else if !self.captured.numbers.is_empty() {
            self.forget_number(name);
        }
    }

    /// A member that is no number replaces an earlier one of its name.
    #[inline(never)]
    fn forget_number(&mut self, name: Raw) {
        let text = self.cursor.text();
        self.captured.numbers.retain(|earlier| !same_text(earlier.name, name, text));
    }
}

/// Whether two strings of a record are equal once their escapes are resolved.
fn same_text(a: Raw, b: Raw, record: &[u8]) -> bool {
    if a.kind() == Kind::String && b.kind() == Kind::String {
        return a.bytes(record) == b.bytes(record);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    unescape_into(a.bytes(record), &mut left);
    unescape_into(b.bytes(record), &mut right);
    left == right
}
