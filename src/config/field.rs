//! Reading one key of a configuration: its place in the file, its value, what is wrong with it.

use super::expand::expand;
use super::read::{KEYS, Key, Place};
use crate::error::{Error, Result, Status};
use crate::object::Compression;
use crate::units;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// What there is to read, and the environment to expand it with.
pub(super) struct Source<'a> {
    pub file: &'a Path,
    pub text: &'a str,
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// One table of the file, its keys known and in the order of the file.
pub(super) struct Section<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) at: usize,
    pub(super) fields: Vec<Field<'a>>,
}

/// A table inside an array of tables.
pub(super) struct Table<'a> {
    pub(super) at: usize,
    pub(super) fields: &'a DeTable<'a>,
}

/// A key and its value.
pub(super) struct Field<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) at: usize,
    pub(super) place: Place,
    pub(super) key: &'static str,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Source<'a> {
    pub(super) fn fields(
        &'a self,
        table: &'a DeTable<'a>,
        places: &[Place],
    ) -> Result<Vec<Field<'a>>> {
        let field = |(key, value): (&'a Spanned<_>, &'a Spanned<_>)| {
            let known = self.known(key, places)?;
            let Key { place, name } = *known;
            let (at, value) = (key.span().start, value.get_ref());
            Ok(Field { source: self, at, place, key: name, value })
        };
        let mut fields = table.iter().map(field).collect::<Result<Vec<_>>>()?;
        fields.sort_by_key(|field| field.at);
        Ok(fields)
    }

    pub(super) fn known(&self, key: &Spanned<DeString>, places: &[Place]) -> Result<&'static Key> {
        let here = || KEYS.iter().filter(|key| places.contains(&key.place));
        let word = key.get_ref().as_ref();
        here().find(|key| key.name == word).ok_or_else(|| {
            if let Some(elsewhere) = KEYS.iter().find(|key| key.name == word) {
                let refused = self.refuse(key.span().start, word, "cannot stand here");
                return refused.hint(format!("move it into {}", elsewhere.place));
            }
            let names = || here().map(|key| key.name);
            let hint = match units::nearest(word, names()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
            };
            self.refuse(key.span().start, word, "unknown key").hint(hint)
        })
    }

    pub(super) fn refuse(&self, at: usize, key: &str, cause: impl Display) -> Error {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        let mut thing = format!("{}:{line}", self.file.display());
        if !key.is_empty() {
            thing = format!("{thing}: {key}");
        }
        Error::new(Status::Usage, "config", thing, cause)
    }
}

impl<'a> Section<'a> {
    pub(super) fn find(&self, key: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.key == key)
    }

    pub(super) fn need(&self, key: &str, hint: &str) -> Result<&Field<'a>> {
        self.find(key).ok_or_else(|| self.source.refuse(self.at, key, "missing").hint(hint))
    }

    pub(super) fn refuse(&self, key: &str, cause: impl Display) -> Error {
        let at = self.find(key).map_or(self.at, |field| field.at);
        self.source.refuse(at, key, cause)
    }

    /// An array of tables that must not be empty.
    pub(super) fn tables(&self, key: &str, heading: &str) -> Result<Vec<Table<'a>>> {
        let none = || {
            self.source.refuse(self.at, key, "missing").hint(format!("add at least one {heading}"))
        };
        let field = self.find(key).ok_or_else(none)?;
        let array = field.value.as_array().ok_or_else(|| field.not_a("table", heading))?;
        let table = |item: &'a Spanned<DeValue<'a>>| match item.get_ref().as_table() {
            Some(fields) => Ok(Table { at: item.span().start, fields }),
            None => Err(field.not_a("table", heading)),
        };
        let tables = array.iter().map(table).collect::<Result<Vec<_>>>()?;
        if tables.is_empty() { Err(none()) } else { Ok(tables) }
    }
}

impl<'a> Field<'a> {
    pub(super) fn refuse(&self, cause: impl Display) -> Error {
        self.source.refuse(self.at, self.key, cause)
    }

    pub(super) fn not_a(&self, wanted: &str, example: &str) -> Error {
        let article = if "aeiou".contains(self.value.type_str().chars().next().unwrap_or('x')) {
            "an"
        } else {
            "a"
        };
        self.refuse(format!("{article} {} where a {wanted} belongs", self.value.type_str()))
            .hint(format!("write {example}"))
    }

    pub(super) fn table(&self, heading: &str) -> Result<&'a DeTable<'a>> {
        self.value.as_table().ok_or_else(|| self.not_a("table", heading))
    }

    pub(super) fn string(&self) -> Result<String> {
        let Some(text) = self.value.as_str() else {
            return Err(self.not_a("string", &format!("{} = \"...\"", self.key)));
        };
        expand(text, self.source.variable).map_err(|(cause, hint)| self.refuse(cause).hint(hint))
    }

    pub(super) fn path(&self) -> Result<PathBuf> {
        let path = PathBuf::from(self.string()?);
        if !path.is_absolute() {
            let cause = format!("{:?} is not an absolute path", path.display().to_string());
            return Err(self.refuse(cause).hint("write the whole path, from / on"));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            let cause = format!("{:?} has a NUL, which no path has", path.display().to_string());
            return Err(self.refuse(cause).hint("write the path without it"));
        }
        Ok(path)
    }

    pub(super) fn paths(&self) -> Result<Vec<PathBuf>> {
        let example = format!("{} = [\"/etc/bakelite/key\"]", self.key);
        let array = self.value.as_array().ok_or_else(|| self.not_a("list", &example))?;
        array.iter().map(|item| Self { value: item.get_ref(), ..*self }.path()).collect()
    }

    /// A duration from `low` to `high`, which are durations themselves.
    pub(super) fn duration(&self, low: &str, high: &str) -> Result<Duration> {
        let text = self.string().map_err(|error| match self.value.as_integer() {
            Some(_) => self.refuse("a duration without its unit").hint(units::DURATION_HINT),
            None => error,
        })?;
        let Some(duration) = units::duration(&text) else {
            let error = self.refuse(format!("{text:?} is not a duration"));
            return Err(error.hint(units::DURATION_HINT));
        };
        if Some(duration) < units::duration(low) || Some(duration) > units::duration(high) {
            return Err(self
                .refuse(format!("{text} is out of range"))
                .hint(format!("choose something from {low} to {high}")));
        }
        Ok(duration)
    }

    pub(super) fn size(&self) -> Result<u64> {
        let text = match self.value.as_integer() {
            Some(number) if number.radix() == 10 => number.as_str().to_owned(),
            _ => self.string()?,
        };
        match units::size(&text) {
            Some(bytes) if bytes > 0 => Ok(bytes),
            Some(_) => Err(self.refuse("must be more than 0").hint(units::SIZE_HINT)),
            None => Err(self.refuse(format!("{text:?} is not a size")).hint(units::SIZE_HINT)),
        }
    }

    pub(super) fn count(&self) -> Result<u32> {
        let hint = format!("write a whole number from 1 on, such as {} = 4000", self.key);
        let Some(number) = self.value.as_integer() else {
            return Err(self.not_a("number", &format!("{} = 4000", self.key)));
        };
        let count = u32::from_str_radix(number.as_str(), number.radix()).unwrap_or(0);
        if count > 0 {
            return Ok(count);
        }
        Err(self.refuse(format!("{} is out of range", number.as_str())).hint(hint))
    }

    pub(super) fn compression(&self) -> Result<Compression> {
        match self.string()?.as_str() {
            "zstd" => Ok(Compression::Zstd),
            "none" => Ok(Compression::None),
            other => Err(self
                .refuse(format!("{other:?} is no kind of compression"))
                .hint("write \"zstd\" or \"none\"")),
        }
    }

    pub(super) fn strings(&self) -> Result<Vec<String>> {
        let example = format!("{} = [\"...\"]", self.key);
        let array = self.value.as_array().ok_or_else(|| self.not_a("list", &example))?;
        let text = |item: &Spanned<DeValue<'_>>| {
            let no_string = || self.refuse("an entry that is no string").hint(&example);
            let text = item.get_ref().as_str().ok_or_else(no_string)?;
            let expanded = expand(text, self.source.variable);
            expanded.map_err(|(cause, hint)| self.refuse(cause).hint(hint))
        };
        array.iter().map(text).collect()
    }

    /// Windows of time, each longer than the one before.
    pub(super) fn windows(&self) -> Result<Vec<Duration>> {
        let mut windows = Vec::new();
        for text in self.strings()? {
            let Some(window) = units::duration(&text) else {
                let error = self.refuse(format!("{text:?} is not a duration"));
                return Err(error.hint(units::DURATION_HINT));
            };
            let than = match windows.last() {
                None => window.is_zero().then_some("0"),
                Some(before) => (*before >= window).then_some("the one before it"),
            };
            if let Some(than) = than {
                let error = self.refuse(format!("{text} is not longer than {than}"));
                return Err(error.hint("write rising durations, such as [\"30s\", \"5m\", \"1h\"]"));
            }
            windows.push(window);
        }
        Ok(windows)
    }

    /// Whether it is this text, be it that a variable of the environment says so, or is not set.
    pub(super) fn is(&self, word: &str) -> bool {
        let text = self.value.as_str().map(|text| expand(text, self.source.variable));
        text.is_some_and(|text| text.is_ok_and(|text| text == word))
    }

    /// Empty text and empty lists ask for nothing.
    pub(super) fn is_off(&self) -> bool {
        self.is("") || self.value.as_array().is_some_and(|array| array.is_empty())
    }

    /// Bytes a second; empty: no limit.
    pub(super) fn rate(&self) -> Result<Option<u64>> {
        if self.is_off() { Ok(None) } else { self.size().map(Some) }
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        let wrong = || self.not_a("boolean", &format!("{} = false", self.key));
        self.value.as_bool().ok_or_else(wrong)
    }

    /// Refuses what a destination of type file cannot be told.
    pub(super) fn of_file(&self) -> Result<()> {
        match self.key {
            "type" | "path" | "in_step" | "replica_max" | "objects_max" => Ok(()),
            _ if self.is_off() => Ok(()),
            _ => Err(self.refuse("belongs to a destination of type \"s3\"").hint("leave it out")),
        }
    }

    /// Refuses what a destination of type s3 cannot be told.
    pub(super) fn of_s3(&self) -> Result<()> {
        match self.key {
            "path" if self.is_off() => Ok(()),
            "path" => {
                Err(self.refuse("belongs to a destination of type \"file\"").hint("write prefix"))
            }
            _ => Ok(()),
        }
    }
}
