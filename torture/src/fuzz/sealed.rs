//! Sealed objects: what opens is what was sealed, under the same name, even where somebody without the
//! key has mended every checksum.

use super::objects::{BASES, input, mend, split};
use super::{Fuzz, Input, Is, Seen, holds, made, mutate};
use crate::rng::Rng;
use bakelite::name::Name;
use bakelite::seal::{self, Key, Keys, Rule, Secret};
use bakelite::verify::Content;

pub fn keys(rule: Rule) -> Keys {
    let key = |byte| Key::new(&Secret::new([byte; 32]));
    Keys { all: vec![key(1), key(2)], rule }
}

/// Sealed objects, some under a key that is not the first, some under one that nobody has.
pub struct Sealed {
    keys: Keys,
    /// With what is inside.
    bases: Vec<(Name, Vec<u8>, Vec<u8>)>,
}

impl Sealed {
    pub fn new() -> Self {
        let keys = keys(Rule::All);
        let strange = Key::new(&Secret::new([3; 32]));
        let all = [&keys.all[0], &keys.all[1], &strange];
        let base = |seed| {
            let rng = &mut Rng::of(seed, "sealed");
            let (name, plain) = if rng.one_in(2) { made::part(rng) } else { made::change_set(rng) };
            (name.clone(), all[rng.below(3) as usize].seal(&name, &plain), plain)
        };
        let bases = (0..BASES).map(base).collect();
        Self { keys, bases }
    }
}

impl Fuzz for Sealed {
    fn input(&mut self, rng: &mut Rng) -> Input {
        let (name, sealed, plain) = rng.pick(&self.bases);
        let (other_name, other, _) = rng.pick(&self.bases);
        let mut body = if rng.one_in(32) { plain } else { sealed }.clone();
        if !rng.one_in(16) {
            mutate::bytes(&mut body, other, rng);
        }
        let name = if rng.one_in(16) { other_name } else { name };
        if rng.one_in(3) {
            return input(name, &body, Is::Changed);
        }
        mend(&mut body);
        input(name, &body, Is::Mended)
    }

    fn check(&mut self, Input { bytes, .. }: &Input) -> Result<Seen, String> {
        let (Some(name), body) = split(bytes) else { return Ok(Seen::Refused) };
        let mut bases = self.bases.iter().filter(|base| base.0 == name);
        match self.keys.open(&name, body.to_vec()) {
            Ok(found) if found == body => {
                // No key of ours is meant: whoever reads it refuses it, and says which key it wants.
                let read = Content::decode(&name, found);
                holds(read.is_err(), || "it is read, and nobody has opened it".to_owned())?;
                Ok(Seen::Refused)
            }
            Ok(found) => {
                let same = bases.any(|(_, sealed, plain)| *sealed == body && *plain == found);
                holds(same, || "it opens, and is not what was sealed".to_owned())?;
                Ok(Seen::Taken)
            }
            Err(seal::Refused::NotSealed | seal::Refused::Damaged(_)) => {
                let right = bases.any(|(_, sealed, _)| *sealed == body);
                holds(!right, || "what was sealed is refused".to_owned())?;
                Ok(Seen::Refused)
            }
        }
    }
}
