//! The ways in which the store lies, and which request is lied to how: chosen by seed, and counted.

use super::wire::Request;
use crate::rng::Rng;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    Internal,
    SlowDown,
    TooMany,
    /// The connection ends before the body is read.
    ResetBefore,
    /// It ends after that, and nothing is done.
    ResetAfter,
    /// All is done, and nobody is told.
    ReplyLost,
    /// Nothing is done, and the reply is a success with an error in it.
    ErrorBody,
    /// The reply ends in its middle.
    Short,
    /// The reply comes a little at a time.
    Trickle,
    /// The listing is some changes behind.
    Stale,
    /// A page of a listing has few keys.
    TinyPage,
    /// For a while: the store believes that the client's clock is wrong.
    Skewed,
    /// For a while: what signs the requests is no longer good.
    Expired,
}

use Lie::*;

/// Each lie, what the figures call it, and what it is told to.
pub const LIES: &[(Lie, &str, &[&str])] = &[
    (Internal, "lie 500", &["PUT", "GET", "LIST", "DELETE"]),
    (SlowDown, "lie 503", &["PUT", "GET", "LIST", "DELETE"]),
    (TooMany, "lie 429", &["PUT", "GET", "LIST", "DELETE"]),
    (ResetBefore, "lie reset before the body", &["PUT", "GET", "LIST", "DELETE"]),
    (ResetAfter, "lie reset after the body", &["PUT", "GET", "LIST", "DELETE"]),
    (ReplyLost, "lie reply lost", &["PUT", "DELETE"]),
    (ErrorBody, "lie 200 with an error", &["PUT", "LIST"]),
    (Short, "lie short body", &["GET", "LIST"]),
    (Trickle, "lie trickle", &["PUT", "GET", "LIST"]),
    (Stale, "lie stale listing", &["LIST"]),
    (TinyPage, "lie tiny page", &["LIST"]),
    (Skewed, "lie clock skew", &["PUT", "GET", "LIST"]),
    (Expired, "lie expired credentials", &["PUT", "GET", "LIST"]),
];

impl Lie {
    pub fn name(self) -> &'static str {
        LIES.iter().find(|(lie, ..)| *lie == self).expect("every lie is in the table").1
    }

    /// The status and the code of one that is only a refusal.
    pub fn refusal(self) -> Option<(u16, &'static str)> {
        match self {
            Internal => Some((500, "InternalError")),
            SlowDown => Some((503, "SlowDown")),
            TooMany => Some((429, "TooManyRequests")),
            ErrorBody => Some((200, "InternalError")),
            Skewed => Some((403, "RequestTimeTooSkewed")),
            Expired => Some((400, "ExpiredToken")),
            ResetBefore | ResetAfter | ReplyLost | Short | Trickle | Stale | TinyPage => None,
        }
    }

    /// How many requests after it are lied to in the same way, at most.
    fn lasts(self) -> u64 {
        match self {
            Skewed | Expired => 6,
            SlowDown => 3,
            _ => 0,
        }
    }
}

#[derive(Debug)]
pub struct Liar {
    rng: Rng,
    one_in: Option<u64>,
    /// One that goes on, and for how many requests.
    lasting: Option<(Lie, u64)>,
    told: BTreeMap<Lie, u64>,
}

impl Liar {
    pub fn new(rng: Rng) -> Self {
        Self { rng, one_in: None, lasting: None, told: BTreeMap::new() }
    }

    pub fn lie(&mut self, one_in: Option<u64>) {
        (self.one_in, self.lasting) = (one_in, None);
    }

    pub fn told(&self) -> &BTreeMap<Lie, u64> {
        &self.told
    }

    /// How a request is lied to.
    pub fn choose(&mut self, request: &Request) -> Option<Lie> {
        let lie = self.next(request.kind())?;
        *self.told.entry(lie).or_default() += 1;
        Some(lie)
    }

    fn next(&mut self, kind: &str) -> Option<Lie> {
        if let Some((lie, left)) = self.lasting {
            self.lasting = (left > 1).then_some((lie, left - 1));
            return Some(lie);
        }
        let one_in = self.one_in?;
        if !self.rng.one_in(one_in) {
            return None;
        }
        let can_be: Vec<Lie> =
            LIES.iter().filter(|(.., told_to)| told_to.contains(&kind)).map(|it| it.0).collect();
        // Those told least come first, so that a short run tells all of them.
        let told = |lie: &Lie| self.told.get(lie).copied().unwrap_or(0);
        let least = can_be.iter().map(told).min()?;
        let rare: Vec<Lie> = can_be.into_iter().filter(|lie| told(lie) == least).collect();
        let lie = *self.rng.pick(&rare);
        let lasts = self.rng.below(lie.lasts() + 1);
        self.lasting = (lasts > 0).then_some((lie, lasts));
        Some(lie)
    }

    /// How many keys a tiny page has.
    pub fn few(&mut self) -> usize {
        self.rng.between(1, 3) as usize
    }

    /// How far a listing is behind.
    pub fn some_changes(&mut self) -> u64 {
        self.rng.between(1, 8)
    }
}
