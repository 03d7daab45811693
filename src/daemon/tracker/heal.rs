//! A resync, some pages at a time, until the database is known again.

use super::{Compared, Done, Healing, Job, Phase, REST, Tracker};
use crate::capture::Capture;
use crate::clock;
use crate::commit::CommitNo;
use crate::daemon::open::{self, Files};
use crate::error::{Error, Result, Status};
use crate::sabotage;
use crate::ship::{Healed, Resync};
use crate::source::Seen;
use std::time::{Duration, Instant};

const OTHER_FILES: &str = "other files have taken its place, or its WAL's";
/// How long a new file is not opened beside the WAL of the old one.
const STALE: Duration = Duration::from_secs(10);

impl Tracker {
    /// The next job of a resync, or none before it may be tried again. The capture comes back if none
    /// is under way.
    pub(super) fn heal(
        &mut self,
        mut capture: Box<Capture>,
        now: Instant,
    ) -> std::result::Result<Option<Job>, Box<Capture>> {
        let Some(healing) = &mut self.healing else { return Err(capture) };
        if now < self.retry_at {
            self.next_look = self.retry_at;
            // It begins again from its first page: nothing of the WAL is needed until then, and the
            // application must not wait for a destination that takes nothing.
            if let Err(error) = capture.source.release() {
                self.log(&format!("pin: {error}"));
            }
            self.phase = Phase::Here(capture);
            return Ok(None);
        }
        let Healing { base, resync } = healing;
        let (base, resync) = (*base, resync.take());
        let (path, files) = (self.database.path.clone(), self.files);
        let mut shipper = self.shipper.take().expect("nothing is shipped before it is done");
        Ok(Some(Job::new(&self.routes.all, move || {
            let resync = match resync {
                Some(resync) => Ok(resync),
                None if files.is_some_and(|files| !files.are_still_at(&path)) => {
                    Err(Error::new(Status::Failed, "watch", path.display(), OTHER_FILES))
                }
                None => Resync::begin(&mut shipper, &mut capture, &base, &path, clock::now)
                    .map(Box::new),
            };
            let compared = resync.and_then(|mut resync| {
                let all = resync.step(&mut shipper, &capture)?;
                if !all {
                    return Ok(Compared::Some(resync));
                }
                resync.finish(&mut shipper, &mut capture).map(Compared::All)
            });
            Done::Compared(capture, shipper, compared)
        })))
    }

    pub(super) fn compared(&mut self, commit: CommitNo, compared: Result<Compared>, now: Instant) {
        let Some(healing) = &mut self.healing else { return };
        match compared {
            Ok(Compared::Some(resync)) => {
                self.rolling = Some(resync.progress());
                self.status.comparing = self.rolling;
                self.status_due = true;
                healing.resync = Some(resync);
            }
            Ok(Compared::All(healed)) => self.healed(commit, healed),
            Err(error) if error.status == Status::Integrity => self.reopen(error, now),
            Err(error) => {
                self.rolling = None;
                self.put_failed(error, now);
            }
        }
    }

    fn healed(&mut self, commit: CommitNo, healed: Healed) {
        let Healed { pages, bytes } = healed;
        self.healing = None;
        self.distrust = false;
        self.rolling = None;
        self.status.comparing = None;
        self.status.counts.resyncs += 1;
        self.status.counts.resync_pages += pages;
        self.status.counts.resync_bytes += bytes;
        self.log(&match pages {
            0 => format!("resync: nothing differs from commit {commit}"),
            _ => {
                format!("resync: {pages} pages differed, {bytes} bytes, healed as commit {commit}")
            }
        });
        self.all_is_well(commit);
    }

    /// Looks whether the file is still the one that was taken up. What was committed to the old one
    /// is captured first, if it can be.
    pub(super) fn notice_another_file(&mut self, seen: Seen, now: Instant) {
        let blind = sabotage::is("ignore-replaced-file");
        if self.lost || self.leaving || now < self.identified_at || blind {
            return;
        }
        let found = Files::at(&self.database.path);
        if self.files.is_some() && found.as_ref().ok() == self.files.as_ref() {
            self.gone_since = None;
            // A drain must not end with what a file holds that is no more.
            self.identified_at = if self.draining { now } else { now + REST };
            return;
        }
        let since = *self.gone_since.get_or_insert(now);
        if seen != Seen::Nothing && now < since + REST {
            return;
        }
        let cause = match found {
            Ok(_) => OTHER_FILES.into(),
            Err(error) => error.to_string(),
        };
        let error = Error::new(Status::Failed, "watch", self.database.path.display(), cause);
        self.complain(&error);
        self.lost = true;
        self.parts.forget();
    }

    /// The files as they were, if they are being replaced. A WAL that is left beside a new file for
    /// long is what applications use, right or wrong.
    pub(super) fn replaced(&self, now: Instant) -> Option<Files> {
        let since = self.gone_since?;
        let files = self.files?;
        let found = open::identity(&self.database.path);
        let same_file = found.is_ok_and(|found| found == files.database);
        (same_file || now < since + STALE).then_some(files)
    }
}
