//! What is listed is what can be restored.

use super::*;
use crate::model::{Step, Writer};

fn ranges(writer: &Writer) -> Vec<(u64, u64, u32, u64)> {
    let points = points(&*writer.source()).unwrap();
    points.iter().map(|it| (it.first.0, it.last.0, it.timeline.0, it.points)).collect()
}

#[test]
fn restore_points_are_ranges_that_end_at_holes() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1));
    assert_eq!(ranges(&writer), [], "no snapshot, no restore point");
    writer.snapshot().alone(&Step::fill(3, 1..=2, 2));
    assert_eq!(ranges(&writer), [(1, 2, 1, 2)]);
    writer.resync(&Step::fill(3, 1..=3, 3)).alone(&Step::fill(3, [1], 4));
    assert_eq!(ranges(&writer), [(1, 2, 1, 2), (3, 4, 1, 2)]);
    writer.fork(4);
    writer.alone(&Step::fill(3, [1], 5)).snapshot();
    assert_eq!(ranges(&writer), [(1, 2, 1, 2), (3, 5, 2, 3)]);
    let last = points(&*writer.source()).unwrap()[1];
    assert_eq!((last.from, last.to), (writer.commits[3].time, writer.commits[5].time));
}

#[test]
fn trap_86_foreign_objects_are_not_listed() {
    let mut writer = Writer::new(512);
    writer.alone(&Step::fill(2, 1..=2, 1)).snapshot();
    let before = objects(&*writer.source()).unwrap();
    assert_eq!(before.len(), writer.store.objects().len());
    assert!(before.is_sorted_by(|a, b| a.name < b.name));
    for key in ["change/0/x", "change/9", "timeline/1", "part/.tmp-1", "notes"] {
        writer.store.objects().insert(key.into(), b"what".to_vec());
    }
    assert_eq!(objects(&*writer.source()).unwrap(), before);
    assert_eq!(ranges(&writer), [(1, 1, 1, 1)]);
    writer.store.objects().clear();
    assert_eq!(objects(&*writer.source()).unwrap_err().status, Status::Missing);
}
