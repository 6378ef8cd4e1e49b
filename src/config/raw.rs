//! The document as written: a tree of nodes that know their line.
//!
//! The tree is built from the YAML parser's events, not from a ready-made map, because a map would lose what the error
//! messages need: where a key stands, whether a scalar was quoted, and the second of two equal keys. What cannot be a
//! configuration at all (wrong syntax, a tag of some other program, two documents) is refused here; what the keys mean is none
//! of this module's business.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// A configuration nests four levels; what goes deeper than this is an accident or an attack.
const MAX_DEPTH: usize = 32;
/// Nodes that aliases may add: enough for any honest use, too few to fill memory.
const MAX_ALIASED_NODES: usize = 10_000;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// A line of the file, from 1.
    Line(usize),
    /// The environment variable of this name.
    Environment(String),
}

/// One node of the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The line of its key, or its own in a list.
    pub(super) origin: Origin,
    /// What it is.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text as written, without its quotes.
    Scalar {
        /// The text.
        text: String,
        /// Quoted text is never a number, a truth value or nothing.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order written, equal keys included.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The key itself.
    pub(super) name: String,
    /// Where it stands.
    pub(super) origin: Origin,
}

/// Why a text is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The line, from 1; `None` where the whole text is meant.
    pub(super) line: Option<usize>,
    /// The column, from 1.
    pub(super) column: Option<usize>,
    /// What was found.
    pub(super) found: String,
    /// What would be right.
    pub(super) right: String,
}

impl SyntaxError {
    fn at(mark: Marker, found: impl Into<String>, right: impl Into<String>) -> Self {
        SyntaxError {
            line: Some(mark.line()),
            column: Some(mark.col() + 1),
            found: found.into(),
            right: format!("expected {}", right.into()),
        }
    }
}

impl Node {
    /// A scalar that was not quoted.
    pub(super) fn plain(text: impl Into<String>, origin: Origin) -> Self {
        Node { origin, value: Value::Scalar { text: text.into(), quoted: false } }
    }

    /// An empty map.
    pub(super) fn empty_map(origin: Origin) -> Self {
        Node { origin, value: Value::Map(Vec::new()) }
    }

    /// Whether nothing is written where a value could be.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The scalar's text, whatever it looks like.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Gives the whole tree under this node one origin.
    pub(super) fn set_origin(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.set_origin(origin)),
            Value::Map(entries) => {
                for (key, node) in entries {
                    key.origin = origin.clone();
                    node.set_origin(origin);
                }
            }
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.count()).sum(),
        }
    }
}

/// How the value is shown where it is the wrong one: its kind, and for a scalar its text, cut where it is long.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::List(_) => f.write_str("a list"),
            Value::Map(_) => f.write_str("a section"),
            Value::Scalar { .. } if self.is_null() => f.write_str("nothing"),
            Value::Scalar { text, quoted } => {
                let shown = super::redact::text(text);
                let shown: Cow<'_, str> = if shown.chars().count() > 60 {
                    shown.chars().take(57).chain("...".chars()).collect::<String>().into()
                } else {
                    shown
                };
                let typed = text.parse::<f64>().is_ok() || matches!(text.as_str(), "true" | "false");
                match (typed, quoted) {
                    (true, false) => f.write_str(&shown),
                    (true, true) => write!(f, "the text {shown:?}"),
                    (false, _) => write!(f, "{shown:?}"),
                }
            }
        }
    }
}

/// Reads a text as one document; `None` where it holds none, or an empty one.
pub(super) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { parser: Parser::new_from_str(text), anchors: HashMap::new(), aliased: 0 };
    let mut document = None;
    loop {
        let (event, mark) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event if document.is_none() => document = Some(builder.node(event, mark, 0)?),
            _ => {
                return Err(SyntaxError::at(mark, "a second document", "one document, without a `---` in the middle"));
            }
        }
    }
    Ok(document.filter(|node| !node.is_null()))
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Marker), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(error)) => {
                Err(SyntaxError::at(*error.marker(), format!("no YAML: {}", error.info()), "valid YAML"))
            }
            None => Ok((Event::StreamEnd, Marker::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, mark: Marker, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(SyntaxError::at(mark, format!("more than {MAX_DEPTH} levels"), "a document that nests less"));
        }
        let origin = Origin::Line(mark.line());
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_by_tag = check_tag(tag.as_deref(), mark)?;
                let quoted = style != ScalarStyle::Plain || text_by_tag;
                (anchor, Value::Scalar { text: text.into_owned(), quoted })
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), mark)?;
                (anchor, Value::List(self.list(depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), mark)?;
                (anchor, Value::Map(self.map(depth)?))
            }
            Event::Alias(anchor) => return self.alias(anchor, mark),
            _ => return Err(SyntaxError::at(mark, "no YAML: the document breaks off", "valid YAML")),
        };
        let node = Node { origin, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, mark) => items.push(self.node(event, mark, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let (event, mark) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let Value::Scalar { text: name, .. } = self.node(event, mark, depth + 1)?.value else {
                return Err(SyntaxError::at(mark, "a list or a section as a key", "text as a key"));
            };
            let (event, value_mark) = self.next()?;
            let mut node = self.node(event, value_mark, depth + 1)?;
            let origin = Origin::Line(mark.line());
            node.origin = origin.clone();
            entries.push((Key { name, origin }, node));
        }
    }

    fn alias(&mut self, anchor: usize, mark: Marker) -> Result<Node, SyntaxError> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(SyntaxError::at(mark, "an alias inside its own anchor", "an alias of something complete"));
        };
        self.aliased += target.count();
        if self.aliased > MAX_ALIASED_NODES {
            let found = format!("aliases that stand for more than {MAX_ALIASED_NODES} values");
            return Err(SyntaxError::at(mark, found, "the values written out"));
        }
        let mut node = target.clone();
        node.origin = Origin::Line(mark.line());
        Ok(node)
    }
}

/// Whether the tag makes text of a scalar; tags outside YAML's own schema have no meaning here.
fn check_tag(tag: Option<&Tag>, mark: Marker) -> Result<bool, SyntaxError> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
        Some(tag) => {
            Err(SyntaxError::at(mark, format!("the tag {}{}", tag.handle, tag.suffix), "the value without a tag"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(Key, Node)> {
        match parse(text).unwrap().unwrap().value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_entry_knows_its_line_even_the_second_of_two_equal_ones() {
        let entries = entries("a: 1\n\nb:\n  - x\n  - y\na: 2\n");
        let places: Vec<_> = entries.iter().map(|(key, _)| (key.name.as_str(), key.origin.clone())).collect();
        assert_eq!(places, [("a", Origin::Line(1)), ("b", Origin::Line(3)), ("a", Origin::Line(6))]);
        let Value::List(items) = &entries[1].1.value else { panic!() };
        assert_eq!(items[1].origin, Origin::Line(5));
    }

    #[test]
    fn quoted_text_is_told_from_plain_text() {
        let entries = entries("a: ~\nb: \"\"\nc: '5'\nd: !!str 5\ne:\n");
        let nulls: Vec<_> = entries.iter().map(|(_, node)| node.is_null()).collect();
        assert_eq!(nulls, [true, false, false, false, true]);
        assert_eq!(entries[2].1.to_string(), "the text \"5\"");
        assert_eq!(entries[3].1.to_string(), "the text \"5\"");
    }

    #[test]
    fn aliases_stand_for_their_anchor_and_cannot_explode() {
        let shared = entries("a: &x [1, 2]\nb: *x\n");
        assert!(matches!(&shared[1].1.value, Value::List(items) if items.len() == 2));
        assert_eq!(shared[1].1.origin, Origin::Line(2));
        let mut bomb = String::from("a0: &a0 [1,1,1,1,1,1,1,1,1]\n");
        for level in 1..12 {
            let previous = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", previous.trim_end_matches(", ")));
        }
        assert!(parse(&bomb).unwrap_err().found.starts_with("aliases that stand for more"));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(parse(&deep).unwrap_err().found, "more than 32 levels");
    }

    #[test]
    fn nothing_is_no_document() {
        for text in ["", "\n\n", "# a comment\n", "---\n", "~\n"] {
            assert!(parse(text).unwrap().is_none(), "{text:?}");
        }
    }
}
