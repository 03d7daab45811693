//! A change-set's commits again, in order, each with the pages that it wrote as it left them.
//!
//! The undo patches are turned around: going back to the first version of every page, each patch takes
//! in what it overwrites, and so leads forward again. Memory follows the size of the object.

use super::patch::{patch_length, swap};
use super::{ChangeSet, Point};
use crate::commit::PageNo;
use crate::object::Damage;

/// In place of a patch: the first time that a page is written.
const FIRST: usize = usize::MAX;

impl ChangeSet {
    /// Hands each commit to `each`, with the pages that it wrote.
    pub fn replay(&self, mut each: impl FnMut(Point, Pages)) -> Result<(), Damage> {
        let size = self.object.header.page_size.bytes();
        let split = self.page_blocks()?;
        let mut contents = Vec::with_capacity(self.pages.len() * size);
        for number in 0..split {
            contents.extend(self.object.block(number)?);
        }
        let mut stream = Vec::new();
        for number in split..self.object.count() - 1 {
            stream.extend(self.object.block(number)?);
        }
        let patches = self.patches(&stream)?;
        let slots: Vec<u32> = self.writes.iter().flatten().copied().collect();
        for (&slot, &at) in slots.iter().zip(&patches).rev().filter(|(_, at)| **at != FIRST) {
            swap(&mut stream[at..], &mut contents[slot as usize * size..][..size])?;
        }
        let mut written = 0..0;
        for (point, its) in self.points().into_iter().zip(&self.writes) {
            written = written.end..written.end + its.len();
            for at in written.clone().filter(|at| patches[*at] != FIRST) {
                let page = &mut contents[slots[at] as usize * size..][..size];
                swap(&mut stream[patches[at]..], page)?;
            }
            each(point, Pages { set: self, slots: its, contents: &contents, size });
        }
        Ok(())
    }

    /// Where each write's patch begins, in the order of the table.
    fn patches(&self, stream: &[u8]) -> Result<Vec<usize>, Damage> {
        let mut seen = vec![false; self.pages.len()];
        let mut at = 0;
        let mut patches = Vec::new();
        for &slot in self.writes.iter().flatten() {
            if !std::mem::replace(&mut seen[slot as usize], true) {
                patches.push(FIRST);
                continue;
            }
            patches.push(at);
            at += patch_length(stream.get(at..).ok_or(Damage::Short)?)?;
        }
        let all = at == stream.len();
        all.then_some(patches).ok_or(Damage::BadTable("patches of no page"))
    }

    /// The object's bytes before compression.
    pub fn plain_bytes(&self) -> usize {
        (0..self.object.count()).map(|number| self.object.block_bytes(number)).sum()
    }
}

/// The pages that one commit wrote.
#[derive(Debug)]
pub struct Pages<'a> {
    set: &'a ChangeSet,
    slots: &'a [u32],
    contents: &'a [u8],
    size: usize,
}

impl<'a> Pages<'a> {
    pub fn iter(&self) -> impl Iterator<Item = (PageNo, &'a [u8])> {
        let Self { set, slots, contents, size } = *self;
        let slots = slots.iter().map(|slot| *slot as usize);
        slots.map(move |slot| (set.pages[slot], &contents[slot * size..][..size]))
    }
}
