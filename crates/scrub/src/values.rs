//! Finding exact values: every form of every live secret, in one pass that skips most bytes.
//!
//! Every form is at least [`WINDOW`] bytes long. The last three bytes of a window of that size say how far the
//! window can be moved on without missing a form's first bytes (Wu and Manber's way of searching for many words); only
//! where they say "not at all" is a form looked for, in the sorted list. Nothing of a value is kept but its forms.

use crate::{
    encodings::Form,
    search::{Next, Search},
};
use std::collections::BTreeSet;

/// Bytes of a form by which it is searched for: no form is shorter.
const WINDOW: usize = 8;
/// Bytes of the block at the window's end that decides how far it moves.
const BLOCK: usize = 3;
/// How far the window moves when its block is in no form.
const FARTHEST: u8 = (WINDOW - BLOCK + 1) as u8;
/// Fewest and most bits of the table of moves: 32 KiB for some secrets, 1 MiB for very many.
const TABLE_BITS: (u32, u32) = (15, 20);
/// Bits of the table of forms' first four bytes.
const HEAD_BITS: u32 = 14;

/// Values to look for, and what is put in the place of each.
pub(crate) struct Values {
    /// Sorted, each once, each at least [`WINDOW`] bytes.
    forms: Vec<Form>,
    /// For each form, the index of its placeholder.
    kinds: Vec<usize>,
    /// For each form, the longest other form that it begins with.
    shorter: Vec<Option<usize>>,
    placeholders: Vec<String>,
    /// Whether any form starts with this byte.
    first: [bool; 256],
    /// Whether any form starts with four bytes of this hash.
    heads: Vec<bool>,
    longest: usize,
    /// Whether no form goes on after the end of a line.
    in_lines: bool,
    /// By the hash of a block: how far the window can be moved.
    moves: Vec<u8>,
    table_bits: u32,
}

fn hash(bytes: u32, bits: u32) -> usize {
    (bytes.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
}

/// The two things that are looked at of a window: its block, and its first four bytes.
fn block_and_head(window: &[u8; WINDOW]) -> (u32, u32) {
    let whole = u64::from_le_bytes(*window);
    ((whole >> (8 * (WINDOW - BLOCK))) as u32, whole as u32)
}

impl Values {
    /// `forms` sorted and each once, with the index of each one's placeholder. Forms shorter than a window are left out.
    pub(crate) fn new(forms: impl IntoIterator<Item = (Form, usize)>, placeholders: Vec<String>) -> Self {
        let (forms, kinds): (Vec<Form>, Vec<usize>) =
            forms.into_iter().filter(|(form, _)| form.len() >= WINDOW).unzip();
        let wanted = (forms.len() * usize::from(FARTHEST) * 8).next_power_of_two().ilog2();
        let table_bits = wanted.clamp(TABLE_BITS.0, TABLE_BITS.1);
        let mut moves = vec![FARTHEST; 1 << table_bits];
        let (mut first, mut heads) = ([false; 256], vec![false; 1 << HEAD_BITS]);
        for form in &forms {
            first[usize::from(form[0])] = true;
            for (at, block) in form[..WINDOW].windows(BLOCK).enumerate() {
                let block = u32::from_le_bytes([block[0], block[1], block[2], 0]);
                let near = FARTHEST - 1 - at as u8;
                let slot = &mut moves[hash(block, table_bits)];
                *slot = near.min(*slot);
            }
            heads[hash(u32::from_le_bytes([form[0], form[1], form[2], form[3]]), HEAD_BITS)] = true;
        }
        let (mut shorter, mut open) = (Vec::with_capacity(forms.len()), Vec::<usize>::new());
        for (at, form) in forms.iter().enumerate() {
            while open.last().is_some_and(|&last| !form.starts_with(&forms[last])) {
                open.pop();
            }
            shorter.push(open.last().copied());
            open.push(at);
        }
        let longest = forms.iter().map(|form| form.len()).max().unwrap_or(0);
        let in_lines = forms.iter().all(|form| !form[..form.len() - 1].contains(&b'\n'));
        Self { forms, kinds, shorter, placeholders, first, heads, longest, in_lines, moves, table_bits }
    }

    /// The same values in lower case, for texts that are. What would take their place is not kept.
    pub(crate) fn folded(&self) -> Self {
        let forms: BTreeSet<Form> = self.forms.iter().map(Form::folded).collect();
        Self::new(forms.into_iter().map(|form| (form, 0)), vec![String::new()])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Up to where a text of which more may come can be given out so that where that is says nothing of a value: all but the
    /// longest form's length, and whole lines where no form goes on after the end of one. Nothing before it is undecided.
    pub(crate) fn even(&self, text: &[u8]) -> usize {
        let by_length = (text.len() + 1).saturating_sub(self.longest());
        by_length.max(self.after_lines(text).unwrap_or(0))
    }

    /// The longest form's length; 1 where there is none.
    pub(crate) fn longest(&self) -> usize {
        self.longest.max(1)
    }

    /// Where the last whole line ends in this text; none where there is none, or a form may go on after the end of one.
    pub(crate) fn after_lines(&self, text: &[u8]) -> Option<usize> {
        self.in_lines.then(|| text.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1))?
    }

    /// The first place from `at` on where the first bytes of a form may stand, if eight bytes stand there.
    fn candidate(&self, text: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let window = text.get(at..)?.first_chunk()?;
            let (block, head) = block_and_head(window);
            match self.moves[hash(block, self.table_bits)] {
                0 if self.heads[hash(head, HEAD_BITS)] => return Some(at),
                0 => at += 1,
                on => at += usize::from(on),
            }
        }
    }

    /// The longest form that `text` begins with.
    fn longest_at(&self, text: &[u8]) -> Option<usize> {
        // Every form between the longest that `text` begins with and `text` itself begins with that longest one too,
        // so it is the last form not after `text`, or one that this one begins with.
        let mut form = self.forms.partition_point(|form| &form[..] <= text).checked_sub(1)?;
        while !text.starts_with(&self.forms[form]) {
            form = self.shorter[form]?;
        }
        Some(form)
    }

    /// Whether a longer form begins with all of `text`.
    fn could_grow(&self, text: &[u8]) -> bool {
        if text.len() >= self.longest {
            return false;
        }
        let after = self.forms.partition_point(|form| &form[..] <= text);
        self.forms.get(after).is_some_and(|form| form.starts_with(text))
    }
}

impl Search for Values {
    const BEHIND: usize = 0;

    fn next(&self, text: &[u8], from: usize, last: bool) -> Next<'_> {
        if self.is_empty() {
            return Next::None(text.len());
        }
        let mut at = from;
        while let Some(candidate) = self.candidate(text, at) {
            let rest = &text[candidate..];
            if !last && self.could_grow(rest) {
                return Next::None(candidate);
            }
            if let Some(form) = self.longest_at(rest) {
                let end = candidate + self.forms[form].len();
                let placeholder = self.placeholders[self.kinds[form]].as_str().into();
                return Next::Found { start: candidate, end, placeholder };
            }
            at = candidate + 1;
        }
        if last {
            return Next::None(text.len());
        }
        let tail = from.max((text.len() + 1).saturating_sub(WINDOW));
        let held = (tail..text.len()).find(|&at| self.first[usize::from(text[at])] && self.could_grow(&text[at..]));
        Next::None(held.unwrap_or(text.len()))
    }
}
