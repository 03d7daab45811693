//! Texts that people, listings and environments give: names, configurations, URLs, keys, units, times.

use super::{Fuzz, Input, Is, Seen, holds, mutate};
use crate::rng::Rng;
use bakelite::clock;
use bakelite::commit::Time;
use bakelite::config::{Config, Database, Destination};
use bakelite::error::{Error, Status};
use bakelite::keep::{Keep, POINTS, Place};
use bakelite::key;
use bakelite::name::Name;
use bakelite::seal::{Key, Secret};
use bakelite::units;
use std::path::Path;

/// Right texts, and words of their language.
#[derive(Debug)]
struct Texts {
    right: Vec<String>,
    words: &'static [&'static str],
}

impl Texts {
    fn new(right: &[&str], words: &'static [&'static str]) -> Self {
        Self { right: right.iter().map(|text| (*text).to_owned()).collect(), words }
    }

    fn input(&self, rng: &mut Rng) -> Input {
        let mut bytes = rng.pick(&self.right).clone().into_bytes();
        if rng.one_in(16) {
            return Input { bytes, is: Is::Right };
        }
        mutate::text(&mut bytes, rng.pick(&self.right).as_bytes(), self.words, rng);
        Input { bytes, is: Is::Changed }
    }
}

/// What people hear of a text that is refused.
fn told(error: &Error, thing: &str) -> Result<Seen, String> {
    let right = error.status == Status::Usage && error.message.contains(thing);
    holds(right, || format!("{:?}: {error}", error.status))?;
    holds(error.hint.is_some(), || format!("{error}, and no hint"))?;
    Ok(Seen::Refused)
}

macro_rules! of_texts {
    ($name:ident, $right:expr, $words:expr) => {
        #[derive(Debug)]
        pub struct $name(Texts);

        impl $name {
            pub fn new() -> Self {
                Self(Texts::new($right, $words))
            }
        }

        impl Fuzz for $name {
            fn input(&mut self, rng: &mut Rng) -> Input {
                self.0.input(rng)
            }

            fn check(&mut self, Input { bytes, is }: &Input) -> Result<Seen, String> {
                let Ok(text) = std::str::from_utf8(bytes) else { return Ok(Seen::Refused) };
                match self.judge(text)? {
                    Seen::Refused if *is == Is::Right => Err("it is refused".to_owned()),
                    seen => Ok(seen),
                }
            }

            /// What is looked for in a text that is refused takes more than to read it.
            fn memory(&self, input: &Input) -> usize {
                (256 << 10) + 1024 * input.bytes.len()
            }
        }
    };
}

of_texts!(
    Names,
    &[
        "timeline/00000001",
        "timeline/fffffffe",
        "part/00000401-000102030405060708090a0b0c0d0e0f",
        "snapshot/0000000000000001-0000000000000001-01a2068cf377-00000001",
        "change/0/0000000000000002-0000000000000003-01a2068cf76d-00000001-0000e",
        "change/3/0000000000000002-00000000000000ff-01a2068cf76d-00000001-00a1m",
        "change/f/00000000fffffffe-00000000ffffffff-ffffffffffff-0000000f-ffffe",
    ],
    &[
        "/",
        "-",
        "0",
        "f",
        "e",
        "m",
        "+",
        "é",
        "change/",
        "part/",
        "snapshot/",
        "timeline/",
        "0000000000000000",
        "ffffffffffffffff",
        "7fffffffffffffff",
        ".tmp",
    ]
);

impl Names {
    fn judge(&self, text: &str) -> Result<Seen, String> {
        let Ok(name) = text.parse::<Name>() else { return Ok(Seen::Refused) };
        holds(name.to_string() == text, || format!("it is spelled {name}"))?;
        if let Name::Snapshot(span) | Name::Change(bakelite::name::Change { span, .. }) = &name {
            holds(span.first <= span.last, || "it ends before it begins".to_owned())?;
            holds(span.time <= Time::MAX, || "its time does not fit a name".to_owned())?;
            let _ = span.last.next();
        }
        let last = name.timeline().is_some_and(|timeline| timeline.0 == u32::MAX);
        holds(!last, || "no timeline could come after it".to_owned())?;
        for other in &self.0.right {
            let known: Name = other.parse().map_err(|_| format!("{other} is no name"))?;
            let same = known.kind() != name.kind() || known.cmp(&name) == other[..].cmp(text);
            holds(same, || format!("in a listing it is on the other side of {other}"))?;
        }
        Ok(Seen::Taken)
    }
}

of_texts!(
    Urls,
    &[
        "/mnt/backup",
        "backup/app",
        "file:///srv/replica",
        "s3://backups/shop/app?endpoint=http://127.0.0.1:9000&region=eu-west-1&url_style=path",
        "s3://backups",
        "s3://my.bucket-1/a/b/c?create_only=false&url_style=virtual-host",
    ],
    &[
        "://",
        "s3://",
        "file://",
        "/",
        "//",
        "?",
        "&",
        "=",
        "%2f",
        "..",
        ".",
        ":",
        "@",
        "#",
        "endpoint=",
        "region=",
        "url_style=",
        "create_only=",
        "true",
        "https://",
        ":65536",
        ":0",
        "[::1]",
        "é",
        "\0",
        "\n",
    ]
);

impl Urls {
    fn judge(&self, text: &str) -> Result<Seen, String> {
        let destination = match Destination::parse(text) {
            Ok(destination) => destination,
            Err(error) => {
                let shown = text.escape_debug().to_string();
                let thing = if error.message.contains(text) { text } else { &shown };
                return told(&error, thing);
            }
        };
        let shown = destination.to_string();
        let again = Destination::parse(&shown).map_err(|error| format!("{shown}: {error}"))?;
        holds(again == destination, || format!("{shown} is read as {again:?}"))?;
        Ok(Seen::Taken)
    }
}

of_texts!(
    Configs,
    &[
        "[[database]]\nname = \"app\"\npath = \"/srv/app.db\"\n[[database.destination]]\n\
         type = \"file\"\npath = \"/mnt/backup\"\n",
        "[defaults]\npoll_interval = \"10ms\"\nship_interval = \"auto\"\nkeep = [\"all:24h\", \
         \"5m:7d\"]\ncompaction = [\"30s\", \"5m\"]\n[[database]]\nname = \"a\"\npath = \"/a.db\"\n\
         state_dir = \"/var/lib/a\"\nsnapshot_rate = \"10MB\"\nwal_max = 1048576\n\
         [[database.destination]]\ntype = \"s3\"\nbucket = \"backups\"\nprefix = \"x/y\"\n\
         endpoint = \"http://127.0.0.1:9000\"\nregion = \"eu-west-1\"\naccess_key_id = \"A\"\n\
         secret_access_key = \"${SECRET}\"\nlock = \"30d\"\nlock_mode = \"governance\"\n",
        "[[database]]\nname = \"a\"\npath = \"/a.db\"\nkey_files = [\"/etc/k\"]\nseal = \"all\"\n\
         [[database.destination]]\ntype = \"file\"\npath = \"/x\"\n[[database.destination]]\n\
         type = \"file\"\npath = \"/y\"\nin_step = false\nreplica_max = \"9GB\"\nobjects_max = 7\n[[database]]\nname = \"b\"\n\
         path = \"/b.db\"\nmetrics_listen = \"127.0.0.1:9187\"\nping_url = \"https://p.example/x\"\n\
         [[database.destination]]\ntype = \"file\"\npath = \"/x\"\n",
    ],
    &[
        "[",
        "]",
        "[[",
        "[[[[[[[[[[[[[[[[",
        "{",
        "{a={a={a={",
        "}",
        "=",
        "\"",
        "\"\"\"",
        "'''",
        "#",
        "\n",
        ".",
        "a.b.c.d.e.f",
        "${",
        "${HOME}",
        "${GONE}",
        "${X:-}",
        "$${",
        "}",
        "true",
        "1e999",
        "-1",
        "0x7fffffffffffffff",
        "99999999999999999999",
        "0s",
        "100y",
        "1979-05-27",
        "nan",
        "\\u0000",
        "\\n",
        "é",
        "\u{feff}",
        "/../..",
        "//",
        "[[database]]\n",
        "name = \"app\"\n",
        "path = \"/srv/app.db\"\n",
        "[[database.destination]]\n",
        "type = \"s3\"\n",
    ]
);

impl Configs {
    fn judge(&self, text: &str) -> Result<Seen, String> {
        const FILE: &str = "/etc/h.toml";
        let variable = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "SECRET" => Some("hush".to_owned()),
            _ => None,
        };
        let config = match Config::parse(text, Path::new(FILE), &variable) {
            Ok(config) => config,
            Err(error) => {
                // Where it stands in another place it is none.
                let place = "secret_access_key = \"${SECRET}\"\n";
                let elsewhere = text.replacen(place, "", 1).contains("SECRET");
                holds(elsewhere || !error.message.contains("hush"), || {
                    format!("it tells the secret: {error}")
                })?;
                return told(&error, FILE);
            }
        };
        holds(!config.databases.is_empty(), || "there is no database".to_owned())?;
        for (at, database) in config.databases.iter().enumerate() {
            let Database { name, path, state_dir, destinations, mirrors, .. } = database;
            let absolute = path.is_absolute() && state_dir.is_absolute();
            holds(absolute, || format!("a relative path: {database:?}"))?;
            let alone = config.databases[..at].iter().all(|other| {
                other.name != *name && other.path != *path && other.state_dir != *state_dir
            });
            holds(alone, || format!("{name} shares something: {config:?}"))?;
            let led = mirrors.len() < destinations.len();
            holds(led, || format!("{name} waits for nobody: {database:?}"))?;
            for destination in destinations {
                let shown = destination.to_string();
                let again =
                    Destination::parse(&shown).map_err(|error| format!("{shown}: {error}"))?;
                holds(again.to_string() == shown, || format!("{shown} is shown as {again}"))?;
            }
        }
        Ok(Seen::Taken)
    }
}

of_texts!(
    Units,
    &["10ms", "0s", "90m", "30d", "1y", "4096", "256MiB", "1TB", "1kB", "all:24h,5m:7d,1h:30d"],
    &[
        "ms",
        "s",
        "m",
        "h",
        "d",
        "y",
        "B",
        "kB",
        "KB",
        "MB",
        "GB",
        "TB",
        "KiB",
        "MiB",
        "GiB",
        "TiB",
        "all:",
        ":",
        ",",
        "0",
        "9",
        "18446744073709551615",
        "-",
        "+",
        " ",
        ".5",
        "e3",
        "é",
    ]
);

/// The number before its unit times what that stands for, without a limit that a sum could pass.
fn worth(text: &str, scales: &[(&str, u128)]) -> Option<u64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - unit.len()];
    let (_, scale) = scales.iter().find(|(name, _)| *name == unit)?;
    let number: u128 = digits.trim_start_matches('0').parse().ok().or_else(|| {
        (!digits.is_empty() && digits.bytes().all(|digit| digit == b'0')).then_some(0)
    })?;
    number.checked_mul(*scale)?.try_into().ok()
}

impl Units {
    fn judge(&self, text: &str) -> Result<Seen, String> {
        const DAY: u128 = 86_400_000;
        let times = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let times: Vec<_> = times.into_iter().chain([("d", DAY), ("y", 365 * DAY)]).collect();
        let powers = |base: u128| [1, 2, 3, 4].map(|power| base.pow(power));
        let names = [["kB", "MB", "GB", "TB"], ["KiB", "MiB", "GiB", "TiB"]];
        let sizes = [1000, 1024].map(powers).into_iter().zip(names);
        let sizes = sizes.flat_map(|(powers, names)| names.into_iter().zip(powers));
        let sizes: Vec<_> = sizes.chain([("", 1), ("B", 1), ("KB", 1000)]).collect();
        let (duration, size) = (units::duration(text), units::size(text));
        let ms = duration.map(|duration| duration.as_millis() as u64);
        let same = ms == worth(text, &times) && size == worth(text, &sizes);
        holds(same, || format!("read as {duration:?} and {size:?}"))?;
        if let Some(duration) = duration {
            let again = units::duration(&format!("{}ms", duration.as_millis()));
            holds(again == Some(duration), || format!("{duration:?} became {again:?}"))?;
            holds(!units::stretch(duration).is_empty(), || "not shown".to_owned())?;
        }
        let steps: Vec<_> = text.split(',').map(str::to_owned).collect();
        let keep = Keep::parse(&steps);
        if let Ok(keep) = &keep {
            let (now, window) = (Time::MAX, duration.unwrap_or_default());
            let step = |age| match keep.place(Time(now.0 - age), now) {
                Place::Apart => None,
                Place::Bucket { step, .. } => Some(step),
                Place::Past => Some(usize::MAX),
            };
            let steps = [0, 1, 1 << 40, Time::MAX.0].map(step);
            holds(steps.is_sorted(), || format!("of rising ages: {steps:?}"))?;
            let levels = keep.levels(&[window]);
            let fits = !keep.fits(&[window]) || levels.len() <= 15;
            holds(fits, || format!("levels without a digit: {levels:?}"))?;
            let apart =
                keep.snapshot_window(Time(0), now).is_none_or(|it| it.as_millis() >= POINTS.into());
            holds(apart, || "snapshots closer than points".to_owned())?;
        }
        let taken = duration.is_some() || size.is_some() || keep.is_ok();
        Ok(if taken { Seen::Taken } else { Seen::Refused })
    }
}

of_texts!(
    Times,
    &[
        "2025-11-23T14:00:00Z",
        "2025-11-23T15:00:00.123+01:00",
        "2025-11-23 14:00:00.5Z",
        "90m",
        "2d",
        "Sun, 06 Nov 1994 08:49:37 GMT",
    ],
    &[
        "T",
        "Z",
        "+",
        "-",
        ":",
        ".",
        "+25:00",
        "-00:00",
        "9999-12-31",
        "1969-12-31",
        "0000",
        "999999999",
        "ms",
        "y",
        "[UTC]",
        "[Europe/Berlin]",
        "GMT",
        "Feb",
        "31",
        ":60",
        "é",
        " ",
        "-009999",
    ]
);

impl Times {
    fn judge(&self, text: &str) -> Result<Seen, String> {
        let now = Time(1_763_906_400_000);
        let of_http = clock::parse_http(text);
        let time = match clock::parse_target(text, now) {
            Ok(time) => time,
            Err(error) if of_http.is_none() => return told(&error, text),
            Err(error) => {
                told(&error, text)?;
                of_http.unwrap_or_default()
            }
        };
        let shown = clock::format(time);
        let again = clock::parse_target(&shown, now).map_err(|error| error.to_string())?;
        holds(again == time, || format!("{time:?} is shown as {shown}, read as {again:?}"))?;
        Ok(Seen::Taken)
    }
}

/// Files of three keys. A mutation knows the digits of all of them.
#[derive(Debug)]
pub struct KeyFiles {
    texts: Texts,
    ids: Vec<String>,
}

impl KeyFiles {
    pub fn new() -> Self {
        let secret = |byte: u8| (byte..byte + 32).collect::<Vec<u8>>();
        let id = |byte| {
            let mut key = Secret::default();
            key.copy_from_slice(&secret(byte));
            Key::new(&key).id.to_string()
        };
        let bytes = [0, 32, 160];
        let ids: Vec<_> = bytes.iter().map(|byte| id(*byte)).collect();
        let text = |(byte, id): (&u8, &String)| {
            let digits: String = secret(*byte).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("# a key\n\nbakelite-key-1 {id} {digits}\n")
        };
        let right = bytes.iter().zip(&ids).map(text).collect();
        let words = &["#", "\n", " ", "bakelite-key-1", "bakelite-key-2", "0", "F", "é", "\r\n"];
        Self { texts: Texts { right, words }, ids }
    }
}

impl Fuzz for KeyFiles {
    fn input(&mut self, rng: &mut Rng) -> Input {
        self.texts.input(rng)
    }

    fn check(&mut self, Input { bytes, is }: &Input) -> Result<Seen, String> {
        match key::parse(bytes) {
            Ok(key) => {
                let id = key.id.to_string();
                holds(self.ids.contains(&id), || format!("a key that nobody made: {id}"))?;
                Ok(Seen::Taken)
            }
            Err(cause) => {
                holds(*is != Is::Right && !cause.is_empty(), || format!("refused: {cause}"))?;
                Ok(Seen::Refused)
            }
        }
    }
}
