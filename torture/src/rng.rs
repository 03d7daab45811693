//! Random numbers from a printed seed: splitmix64. Equal seeds give equal choices on every machine.

#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    #[cfg(test)]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for each named purpose, so that a new choice in one place does not
    /// shift the choices made in all the others.
    pub fn of(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// The one of the `number`th of many runs. It costs next to nothing.
    pub fn of_run(&self, number: u64) -> Self {
        let mut rng = Self(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        Self(rng.number())
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`. The bias for an end far below 2^64 does not matter here.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing lies below zero");
        self.number() % end
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Bytes that look like real data to a compressor: half noise, half runs.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 32);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.number().to_le_bytes());
            let run = self.below(16) as usize;
            bytes.extend(std::iter::repeat_n(b'.', run));
        }
        bytes.truncate(len);
        bytes
    }

    /// Noise, `low` to `high` bytes of it.
    pub fn bytes_of(&mut self, low: u64, high: u64) -> Vec<u8> {
        let len = self.between(low, high);
        (0..len).map(|_| self.number() as u8).collect()
    }

    /// Text of one- to four-byte characters.
    pub fn text(&mut self, chars: usize) -> String {
        const ALPHABET: &[char] = &['a', 'b', 'k', 'l', 'z', ' ', '0', 'é', 'ß', '漢', '🍪'];
        (0..chars).map(|_| *self.pick(ALPHABET)).collect()
    }
}

/// Brings `items` into a random order.
pub fn shuffle<T>(rng: &mut Rng, items: &mut [T]) {
    for at in (1..items.len()).rev() {
        items.swap(at, rng.below(at as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_choices_again_and_a_purpose_gives_others() {
        let take = |mut rng: Rng| (0..8).map(|_| rng.number()).collect::<Vec<_>>();
        assert_eq!(take(Rng::new(7)), take(Rng::new(7)));
        assert_ne!(take(Rng::new(7)), take(Rng::new(8)));
        assert_eq!(take(Rng::of(7, "ops")), take(Rng::of(7, "ops")));
        assert_ne!(take(Rng::of(7, "ops")), take(Rng::of(7, "kills")));
    }

    #[test]
    fn ranges_are_kept() {
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            assert!((3..=5).contains(&rng.between(3, 5)));
            assert!(rng.below(2) < 2);
        }
        assert_eq!(rng.bytes(33).len(), 33);
        assert_eq!(rng.text(9).chars().count(), 9);
    }
}
