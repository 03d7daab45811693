//! A WAL from the other side: the bytes of a header and of frames, for SQLite to take in.

use super::{Checksum, FRAME_HEADER_BYTES, HEADER_BYTES, MAGIC, Salts, VERSION};
use crate::commit::{PageNo, PageSize};

/// The frames of one generation, in order. Its checksums take words little-endian.
#[derive(Debug)]
pub struct Encoder {
    salts: Salts,
    checksum: Checksum,
}

impl Encoder {
    /// Begins a log, with its header.
    pub fn new(page_size: PageSize, salts: Salts) -> (Self, [u8; HEADER_BYTES]) {
        let mut bytes = [0; HEADER_BYTES];
        for (at, number) in [MAGIC, VERSION, page_size.get(), 0].into_iter().enumerate() {
            bytes[4 * at..][..4].copy_from_slice(&number.to_be_bytes());
        }
        bytes[16..24].copy_from_slice(&salts.0);
        let checksum = Checksum::default().past(&bytes[..24], false);
        bytes[24..].copy_from_slice(&stored(checksum));
        (Self { salts, checksum }, bytes)
    }

    /// What stands before a page. `commit`: the pages of the database, where the frame ends one.
    pub fn frame(
        &mut self,
        page: PageNo,
        commit: Option<u32>,
        data: &[u8],
    ) -> [u8; FRAME_HEADER_BYTES] {
        let mut head = [0; FRAME_HEADER_BYTES];
        head[..4].copy_from_slice(&page.0.to_be_bytes());
        head[4..8].copy_from_slice(&commit.unwrap_or(0).to_be_bytes());
        self.checksum = self.checksum.past(&head[..8], false).past(data, false);
        head[8..16].copy_from_slice(&self.salts.0);
        head[16..].copy_from_slice(&stored(self.checksum));
        head
    }
}

fn stored(Checksum([s0, s1]): Checksum) -> [u8; 8] {
    (u64::from(s0) << 32 | u64::from(s1)).to_be_bytes()
}
