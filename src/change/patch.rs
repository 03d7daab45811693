//! Undo patches: the runs of bytes that turn a page back into its version before. `bakelite(5)` owns the
//! byte table.

use crate::object::{Damage, Fields};

/// Equal bytes between two differing runs are cheaper repeated than skipped up to here.
const GAP: usize = 8;

/// Appends the patch that turns `new` into `old`: a count of runs, then offset, length less one, and
/// bytes of each.
pub fn diff(new: &[u8], old: &[u8], patch: &mut Vec<u8>) {
    let start = patch.len();
    patch.extend_from_slice(&[0; 2]);
    let mut runs = 0u16;
    let mut at = 0;
    while let Some(first) = first_difference(new, old, at) {
        let end = run_end(new, old, first);
        patch.extend_from_slice(&(first as u16).to_le_bytes());
        patch.extend_from_slice(&((end - first - 1) as u16).to_le_bytes());
        patch.extend_from_slice(&old[first..end]);
        runs += 1;
        at = end;
    }
    patch[start..start + 2].copy_from_slice(&runs.to_le_bytes());
}

fn first_difference(new: &[u8], old: &[u8], from: usize) -> Option<usize> {
    const STEP: usize = 32;
    let mut at = from;
    while at + STEP <= new.len() && new[at..at + STEP] == old[at..at + STEP] {
        at += STEP;
    }
    (at..new.len()).find(|&i| new[i] != old[i])
}

/// Where a run of differences that starts at `first` ends: before `GAP` equal bytes or at the end.
fn run_end(new: &[u8], old: &[u8], first: usize) -> usize {
    let (mut end, mut at) = (first, first);
    while at < new.len() {
        if new[at] != old[at] {
            end = at + 1;
        } else if at - end >= GAP {
            break;
        }
        at += 1;
    }
    end
}

/// Skips one patch. Its runs come in order: where they overlapped, turning it around and back again
/// would give other bytes.
pub fn patch_length(bytes: &[u8]) -> Result<usize, Damage> {
    let mut fields = Fields(bytes);
    let mut end = 0;
    for _ in 0..fields.u16()? {
        let (at, length) = (usize::from(fields.u16()?), usize::from(fields.u16()?) + 1);
        fields.bytes(length)?;
        if at < end {
            return Err(Damage::BadTable("a patch whose runs overlap"));
        }
        end = at + length;
    }
    Ok(bytes.len() - fields.0.len())
}

pub fn apply(patch: &[u8], page: &mut [u8]) -> Result<(), Damage> {
    let mut fields = Fields(patch);
    for _ in 0..fields.u16()? {
        let at = usize::from(fields.u16()?);
        let bytes = usize::from(fields.u16()?) + 1;
        let run = fields.bytes(bytes)?;
        let place =
            page.get_mut(at..at + bytes).ok_or(Damage::BadTable("a patch past its page"))?;
        place.copy_from_slice(run);
    }
    Ok(())
}

/// Applies a patch and turns it around: it takes in what it overwrites.
pub fn swap(patch: &mut [u8], page: &mut [u8]) -> Result<(), Damage> {
    let runs = Fields(patch).u16()?;
    let mut start = 2;
    for _ in 0..runs {
        let mut fields = Fields(patch.get(start..).ok_or(Damage::Short)?);
        let (at, bytes) = (usize::from(fields.u16()?), usize::from(fields.u16()?) + 1);
        start += 4;
        let run = patch.get_mut(start..start + bytes).ok_or(Damage::Short)?;
        let place = page.get_mut(at..at + bytes);
        run.swap_with_slice(place.ok_or(Damage::BadTable("a patch past its page"))?);
        start += bytes;
    }
    Ok(())
}
