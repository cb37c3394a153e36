//! What commands print: `println!` and `print!` of this crate end here.
//!
//! An output that cannot be written (a full disk) is an error that says so, and no panic. A reader that went away ends
//! most commands by its signal, before this ([`crate::main`]).

use crate::commands::show;
use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};

/// As std's, through [`line()`].
macro_rules! println {
    () => { $crate::out::line(format_args!("")) };
    ($($said:tt)*) => { $crate::out::line(format_args!($($said)*)) };
}

/// As std's, through [`text`].
macro_rules! print {
    ($($said:tt)*) => { $crate::out::text(format_args!($($said)*)) };
}

/// Prints a line.
pub fn line(said: Arguments<'_>) {
    text(format_args!("{said}\n"));
}

/// A text as standard output gets it: for a program every byte, for a person's terminal nothing that steers it, whoever wrote
/// that (a name in a run's JSON, say).
pub fn fit(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { Cow::Owned(show::plain(text)) } else { Cow::Borrowed(text) }
}

/// Prints a text, of which all is out afterwards; else this process ends, and says why.
pub fn text(said: Arguments<'_>) {
    let said = said.to_string();
    let mut to = io::stdout().lock();
    if let Err(e) = to.write_all(fit(&said).as_bytes()).and_then(|()| to.flush()) {
        // Unlike a panic it runs nothing on its way: a command that has something to take back writes by itself.
        fail(&e);
    }
}

/// Ends this process because standard output takes no more.
fn fail(e: &io::Error) -> ! {
    eprintln!("volary: {UNWRITTEN}: {e}");
    std::process::exit(1)
}

/// What is said of an output that cannot be written, before why.
pub const UNWRITTEN: &str = "standard output takes no more, so what was to be said is not all there";

/// The status of a command whose output could not be written, once what it had begun is ended: as after `| head` where its
/// reader is gone, of which nothing is said; else `failed`, with why.
pub fn lost(e: &io::Error, failed: i32) -> i32 {
    if e.kind() == io::ErrorKind::BrokenPipe {
        return 141;
    }
    eprintln!("volary: {UNWRITTEN}: {e}");
    failed
}
