//! The scrubber from outside: what it finds of a corpus made after the vendors' formats, and what it leaves alone.

mod corpus;
mod fuzz;
mod recall;
mod said;
