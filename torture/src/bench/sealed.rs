//! What sealing costs: a first snapshot and a restore with a key and without, one after the other, and a
//! replica rewritten to another key beside a copy of its files; and sealing alone, beside its cipher.

use super::watched::{Place, stored};
use super::{Bench, FULL, MIB, median, row};
use crate::rig::{Failure, Result};
use bakelite::commit::PageNo;
use bakelite::name::{Name, Part};
use bakelite::seal::{Key, Secret};
use bakelite::snapshot::PART_BYTES;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Pairs of one kind of content: they differ by less than this machine does from second to second.
const PAIRS: u64 = 7;

impl Bench<'_> {
    pub(super) fn sealed(&mut self) -> Result<()> {
        for (what, words) in [("that compresses", ""), ("of noise", " --noise")] {
            let place = self.place()?;
            let mib = self.size.mib;
            place.load(&format!("app.db --fill {mib}{words}"))?;
            place.run(&["keygen", "key"])?;
            let (mut snapshot, mut restore) = (Vec::new(), Vec::new());
            for pair in 0..PAIRS {
                let mut seconds = [[0.0; 2]; 2];
                // Each of them is the first as often as the other one.
                for at in [pair % 2, 1 - pair % 2] {
                    seconds[at as usize] = back_and_forth(&place, at == 1)?;
                }
                let [plain, sealed] = seconds;
                snapshot.push(plain[0] / sealed[0]);
                restore.push(plain[1] / sealed[1]);
            }
            println!("{mib} MiB {what}, sealed, to the same without a key");
            let bound = if mib == FULL.mib { ">= 0.75" } else { "" };
            row("  throughput of a first snapshot", bound, median(&snapshot));
            row("  throughput of a restore", bound, median(&restore));
            fs::remove_dir_all(&place.dir)?;
        }
        self.rewritten()?;
        alone();
        Ok(())
    }

    fn rewritten(&mut self) -> Result<()> {
        let place = self.place()?;
        place.load(&format!("app.db --fill {} --noise", self.size.daily_mib))?;
        for key in ["key", "other"] {
            place.run(&["keygen", key])?;
        }
        let (mut speed, mut peak) = (Vec::new(), Vec::new());
        for _ in self.runs() {
            forget(&place)?;
            place.run(&["sync", "app.db", "replica", "--key-file", "key"])?;
            let copied = copied(&place.dir)?;
            let keys = ["--key-file", "other", "--key-file", "key"];
            let (seconds, usage) = place.run(&[&["reencrypt", "replica"][..], &keys].concat())?;
            speed.push(copied / seconds);
            peak.push(usage.peak_mib);
        }
        println!(
            "{:.0} MiB of objects, rewritten to another key",
            stored(&place.replica()) as f64 / MIB
        );
        let bound = if self.size.daily_mib == FULL.daily_mib { ">= 0.5" } else { "" };
        row("  speed, to a copy that lasts", bound, median(&speed));
        row("  peak memory, MiB", "<= 64", median(&peak));
        fs::remove_dir_all(&place.dir)?;
        Ok(())
    }
}

/// Sealing has a hash and a checksum of all bytes besides what the cipher's crate does.
fn alone() {
    let plain = vec![0x5a; PART_BYTES];
    let key = Key::new(&Secret::new([7; 32]));
    let name = Name::Part(Part { page: PageNo(1), hash: 1 });
    let cipher = XChaCha20Poly1305::new(&[7; 32].into());
    let nonce = [0; 24].into();
    let mut own = Vec::new();
    let mut of_the_crate = Vec::new();
    for _ in 0..10 * PAIRS {
        own.push(mib_per_second(|| drop(black_box(key.seal(&name, &plain)))));
        of_the_crate.push(mib_per_second(|| {
            let mut bytes = plain.clone();
            let tag = cipher.encrypt_inout_detached(&nonce, &[], bytes.as_mut_slice().into());
            black_box(tag).expect("a part is far below the cipher's limit");
            black_box(bytes);
        }));
    }
    println!("a part of 4 MiB, sealed in memory");
    row("  MiB per second", "", median(&own));
    row("  MiB per second of the cipher's crate alone", "", median(&of_the_crate));
}

/// Of something that is done to a part.
fn mib_per_second(done: impl FnOnce()) -> f64 {
    let began = Instant::now();
    done();
    PART_BYTES as f64 / MIB / began.elapsed().as_secs_f64()
}

fn forget(place: &Place) -> Result<()> {
    for dir in [place.replica(), place.dir.join(".app.db.bakelite")] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// Seconds of a first snapshot, and of a restore from it.
fn back_and_forth(place: &Place, sealed: bool) -> Result<[f64; 2]> {
    forget(place)?;
    let key = if sealed { &["--key-file", "key"][..] } else { &[] };
    let there = place.time(&[&["sync", "app.db", "replica"], key].concat())?;
    let restore = ["restore", "replica", "--output", "restored.db", "--check", "none"];
    let back = place.time(&[&restore, key].concat())?;
    fs::remove_file(place.dir.join("restored.db"))?;
    Ok([there, back])
}

/// Seconds to copy the replica and make the copy last.
fn copied(dir: &Path) -> Result<f64> {
    let began = Instant::now();
    let words = "cp -r --reflink=never replica copy && sync -f copy";
    let done = Command::new("sh").args(["-c", words]).current_dir(dir).status()?;
    if !done.success() {
        return Err(Failure::Harness(format!("{words}: {done}")));
    }
    let seconds = began.elapsed().as_secs_f64();
    fs::remove_dir_all(dir.join("copy"))?;
    Ok(seconds)
}
