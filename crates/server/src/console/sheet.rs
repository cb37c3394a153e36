//! Pieces of HTML, each with the slot that it goes to, and the page that they make.
//!
//! A slot's id is made of an entry's number only, never of a name that a box chose.

use maud::{Markup, PreEscaped};
use std::collections::HashMap;

/// The slot that the transcript's blocks are appended to.
pub const LOG: &str = "log";

/// What a piece does to its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Goes behind what is there.
    Append,
    /// Takes the place of what is there.
    Set,
}

/// A piece of HTML and where it goes.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Id of an element.
    pub to: String,
    /// See [`How`].
    pub how: How,
    /// Escaped.
    pub html: Markup,
}

impl Piece {
    /// A piece that goes behind what is there.
    pub fn append(to: impl Into<String>, html: Markup) -> Self {
        Self { to: to.into(), how: How::Append, html }
    }
    /// A piece that takes a slot's place.
    pub fn set(to: impl Into<String>, html: Markup) -> Self {
        Self { to: to.into(), how: How::Set, html }
    }
}

/// The id of a part of an entry's block.
#[must_use]
pub fn part(n: u64, name: &str) -> String {
    format!("e{n}-{name}")
}

/// Stands in a block where the content of a slot goes when a whole page is written. No text of anyone's can be
/// one: all texts are escaped.
#[must_use]
pub fn slot(id: &str) -> Markup {
    PreEscaped(format!("<!--@{id}-->"))
}

/// A page's worth of pieces, put together.
#[derive(Default)]
pub struct Sheet(HashMap<String, String>);

impl Sheet {
    /// Applies pieces in their order.
    pub fn apply(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let slot = self.0.entry(piece.to).or_default();
            match piece.how {
                How::Append => slot.push_str(&piece.html.0),
                How::Set => *slot = piece.html.0,
            }
        }
    }

    /// The whole of the transcript.
    #[must_use]
    pub fn write(mut self) -> Markup {
        let log = self.0.remove(LOG).unwrap_or_default();
        let mut out = String::with_capacity(log.len() * 2);
        self.fill(&log, &mut out);
        PreEscaped(out)
    }

    fn fill(&mut self, html: &str, out: &mut String) {
        let mut rest = html;
        while let Some((before, after)) = rest.split_once("<!--@") {
            out.push_str(before);
            let Some((id, after)) = after.split_once("-->") else { break };
            // Each slot is taken out as it is filled, so that this ends.
            if let Some(inner) = self.0.remove(id) {
                self.fill(&inner, out);
            }
            rest = after;
        }
        out.push_str(rest);
    }
}
