//! The pages of one commit, as far as its frames have been read.

use crate::commit::PageNo;
use crate::source::Read;
use crate::wal::Frame;
use std::collections::HashMap;

/// A transaction with more bytes of pages is not held in memory, but read twice.
const LARGE_BYTES: usize = 8 << 20;

/// One that cuts off more pages than that is neither: it would hold 40 bytes of each.
const LARGE_CUT: u32 = 65_536;

/// Room for pages that is kept from one commit to the next.
const KEPT_BYTES: usize = 1 << 20;

/// The pages of the commit that is being read.
#[derive(Debug, Default)]
pub struct Stage {
    pub places: HashMap<PageNo, usize>,
    pub bytes: Vec<u8>,
    first: Option<u32>,
    /// The first frame of a transaction that is too large to be held.
    pub large: Option<u32>,
}

impl Stage {
    pub fn add(&mut self, frame: &Frame, read: Read) {
        if self.large.is_some() {
            return;
        }
        let first = *self.first.get_or_insert(frame.number);
        if let Some(&place) = self.places.get(&frame.page) {
            self.bytes[place..place + frame.data.len()].copy_from_slice(frame.data);
            return;
        }
        self.places.insert(frame.page, self.bytes.len());
        self.bytes.extend_from_slice(frame.data);
        if self.bytes.len() > LARGE_BYTES && read == Read::Living {
            *self = Self { large: Some(first), ..Self::default() };
        }
    }

    /// Lets go of a transaction that cuts off so many pages: a hash of each is to be changed, however few
    /// its frames are.
    pub fn cut(&mut self, pages: u32, read: Read) {
        if pages > LARGE_CUT && read == Read::Living {
            *self = Self { large: self.large.or(self.first), ..Self::default() };
        }
    }

    /// Ready for the next commit; room that only a long one needed is given back.
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
        self.places.clear();
        self.bytes.clear();
        (self.first, self.large) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Checksum, Position};

    fn add(stage: &mut Stage, number: u32, page: u32, data: &[u8]) {
        let position = Position { frame: number, checksum: Checksum::default() };
        let frame = Frame { number, page: PageNo(page), commit: None, data, position };
        stage.add(&frame, Read::Living);
    }

    #[test]
    fn trap_19_what_cuts_off_many_pages_is_large_whether_or_not_its_bytes_are() {
        for (frames, cut, large) in
            [(1, LARGE_CUT, false), (1, LARGE_CUT + 1, true), (200, 0, true), (200, u32::MAX, true)]
        {
            let mut stage = Stage::default();
            (11..11 + frames).for_each(|number| add(&mut stage, number, number, &[7; 65536]));
            stage.cut(cut, Read::Living);
            assert_eq!(stage.large, large.then_some(11), "{frames} frames, {cut} pages cut off");
        }
    }

    /// Older SQLite writes a page that it spilled before to a new frame: the transaction has more frames
    /// than pages, and begins before the place that its pages alone would tell.
    #[test]
    fn trap_19_a_large_transaction_begins_at_its_first_frame() {
        let data = vec![7; 65536];
        let mut stage = Stage::default();
        for number in 11..=20 {
            add(&mut stage, number, 1 + number % 3, &data);
        }
        assert_eq!((stage.places.len(), stage.large), (3, None));
        (21..=200).for_each(|number| add(&mut stage, number, number, &data));
        assert_eq!(stage.large, Some(11));
        assert!(stage.bytes.capacity() < KEPT_BYTES, "nothing of it is held");
        stage.clear();
        add(&mut stage, 201, 5, &data);
        assert_eq!((stage.places.len(), stage.large), (1, None));
    }
}
