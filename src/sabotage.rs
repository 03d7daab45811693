//! Wrong programs: each leaves out one thing that this one takes care of, to prove that whatever tests
//! it would see that.
//!
//! A build with the feature `sabotage` reads the name of one from BAKELITE_SABOTAGE, once; without a
//! name it is as honest as any. A normal build has nothing of all this: there the question is a
//! constant, and so is what hangs on it. `torture saboteurs` knows what each name stands for, and
//! what has to catch it.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("wrong programs are never released: build without the feature `sabotage`");

/// Whether this build has them.
pub const BUILT_IN: bool = cfg!(feature = "sabotage");

/// What the name is read from.
#[cfg(feature = "sabotage")]
pub const VARIABLE: &str = "BAKELITE_SABOTAGE";

/// Whether this is the wrong program of that name.
#[cfg(feature = "sabotage")]
pub fn is(name: &str) -> bool {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(name)
}

#[cfg(not(feature = "sabotage"))]
pub const fn is(_: &str) -> bool {
    false
}

/// Does late, and on a thread of its own, what an honest program waits for.
pub fn later(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        work();
    });
}
