//! What a command says, without what differs from run to run.

/// Words with digits become `#`, and all sizes are bytes. A line that is a number alone stays: it is
/// an exit status, or was asked for.
pub fn shape(line: &str) -> String {
    if line.trim().parse::<u64>().is_ok() {
        return line.trim().to_owned();
    }
    let line = line.replace("MiB", "B").replace("KiB", "B");
    let word = |word: &str| match word.contains(|c: char| c.is_ascii_digit()) {
        true => format!("#{}", if word.ends_with(',') { "," } else { "" }),
        false => word.to_owned(),
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}
