//! What `list` says.

use super::{Document, SCHEMA, table};
use crate::clock;
use crate::list::{Object, Range};
use crate::name::Name;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Points {
    schema: u32,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    first: u64,
    last: u64,
    from: String,
    to: String,
    timeline: u32,
    density: Density,
}

/// Every commit of the range, or so many of them.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Density {
    All(&'static str),
    Some(u64),
}

impl From<&Range> for Point {
    fn from(range: &Range) -> Self {
        let all = range.last.0 - range.first.0 + 1 == range.points;
        Self {
            first: range.first.0,
            last: range.last.0,
            from: clock::format(range.from),
            to: clock::format(range.to),
            timeline: range.timeline.0,
            density: if all { Density::All("all") } else { Density::Some(range.points) },
        }
    }
}

impl Points {
    pub fn new(ranges: &[Range]) -> Self {
        Self { schema: SCHEMA, points: ranges.iter().map(Point::from).collect() }
    }
}

impl Document for Points {
    fn text(&self) -> String {
        let row = |point: &Point| {
            let density = match point.density {
                Density::All(word) => word.to_owned(),
                Density::Some(count) => count.to_string(),
            };
            let numbers = [point.first.to_string(), point.last.to_string()];
            let [first, last] = numbers;
            let (from, to) = (point.from.clone(), point.to.clone());
            [first, last, from, to, point.timeline.to_string(), density]
        };
        let head = ["FIRST", "LAST", "FROM", "TO", "TIMELINE", "DENSITY"];
        table(head, self.points.iter().map(row))
    }
}

#[derive(Debug, Serialize)]
pub struct Objects {
    schema: u32,
    objects: Vec<ObjectOf>,
}

#[derive(Debug, Serialize)]
struct ObjectOf {
    name: String,
    kind: &'static str,
    first: Option<u64>,
    last: Option<u64>,
    time: Option<String>,
    timeline: Option<u32>,
    bytes: u64,
}

impl From<&Object> for ObjectOf {
    fn from(object: &Object) -> Self {
        let (span, timeline) = match &object.name {
            Name::Timeline(timeline) => (None, Some(*timeline)),
            Name::Snapshot(span) => (Some(span), Some(span.timeline)),
            Name::Change(change) => (Some(&change.span), Some(change.span.timeline)),
            Name::Part(_) => (None, None),
        };
        Self {
            name: object.name.to_string(),
            kind: object.name.kind(),
            first: span.map(|span| span.first.0),
            last: span.map(|span| span.last.0),
            time: span.map(|span| clock::format(span.time)),
            timeline: timeline.map(|timeline| timeline.0),
            bytes: object.bytes,
        }
    }
}

impl Objects {
    pub fn new(objects: &[Object]) -> Self {
        Self { schema: SCHEMA, objects: objects.iter().map(ObjectOf::from).collect() }
    }
}

impl Document for Objects {
    /// One line an object, the size first, so that names can be cut off and piped on.
    fn text(&self) -> String {
        let line = |object: &ObjectOf| format!("{:>12}  {}\n", object.bytes, object.name);
        self.objects.iter().map(line).collect()
    }
}
