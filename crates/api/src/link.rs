//! The link: the operator dials the server, also on one machine, and says what happens on its host.
//!
//! Every event of a run is numbered by the operator from 1, journalled on its disk and
//! made durable there before it is shown or takes effect, sent, and kept until the server acknowledges it.
//! After a cut the operator sends again from the number the server asks for; the server takes each number once.

use crate::images::Word;
use crate::inbox::ModelRoute;
use crate::kept::{KeptAct, KeptAnswer};
use model::{Author, BoxId, Moment, Profile, RunId, run::RunKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Operator → server.
#[derive(Debug, Serialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Up {
    /// First frame after dialling: which runs this host knows, and how far.
    Hello {
        /// The host's own name.
        host: String,
        /// Every run with a journal on this host.
        runs: Vec<Known>,
    },
    /// One numbered event of a run.
    Event {
        /// The run.
        run: RunId,
        /// From 1, without gaps.
        seq: u64,
        /// By the host's clock.
        at: Moment,
        /// A [`model::Event`] as JSON. The operator did not look into what the box wrote.
        event: Box<RawValue>,
    },
    /// A box took of its exec's input what was sent: room for as much again.
    Took {
        /// The run.
        run: RunId,
        /// Bytes, as they stood in [`Down::Input`], since the last such word.
        bytes: u64,
    },
    /// What came of [`Down::Kept`].
    Kept {
        /// Which question.
        id: u64,
        /// The answer.
        answer: KeptAnswer,
    },
    /// Whether a box may be made of an image that says this of itself; [`Down::Image`] answers.
    Image {
        /// To know the answer by.
        id: u64,
        /// At most [`crate::images::MAX_SAID`] bytes together.
        words: Vec<Word>,
    },
    /// A signed head of the evidence that this host has seen and kept.
    Witnessed {
        /// The head, as the server sent it.
        head: String,
    },
}

// By hand: serde buffers a tagged enum before it knows the variant, and a raw value does not survive that.
impl<'de> Deserialize<'de> for Up {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        #[derive(Deserialize)]
        struct Fields {
            say: String,
            host: Option<String>,
            runs: Option<Vec<Known>>,
            run: Option<RunId>,
            seq: Option<u64>,
            at: Option<Moment>,
            event: Option<Box<RawValue>>,
            head: Option<String>,
            bytes: Option<u64>,
            id: Option<u64>,
            answer: Option<KeptAnswer>,
            words: Option<Vec<Word>>,
        }
        fn need<T, E: Error>(field: Option<T>, name: &'static str) -> Result<T, E> {
            field.ok_or_else(|| E::missing_field(name))
        }
        let f = Fields::deserialize(from)?;
        match f.say.as_str() {
            "hello" => Ok(Self::Hello { host: need(f.host, "host")?, runs: need(f.runs, "runs")? }),
            "event" => Ok(Self::Event {
                run: need(f.run, "run")?,
                seq: need(f.seq, "seq")?,
                at: need(f.at, "at")?,
                event: need(f.event, "event")?,
            }),
            "took" => Ok(Self::Took { run: need(f.run, "run")?, bytes: need(f.bytes, "bytes")? }),
            "kept" => Ok(Self::Kept { id: need(f.id, "id")?, answer: need(f.answer, "answer")? }),
            "image" => Ok(Self::Image { id: need(f.id, "id")?, words: need(f.words, "words")? }),
            "witnessed" => Ok(Self::Witnessed { head: need(f.head, "head")? }),
            other => Err(D::Error::unknown_variant(other, &["hello", "event", "took", "kept", "image", "witnessed"])),
        }
    }
}

/// A run as the host knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The run.
    pub run: RunId,
    /// The last number in its journal.
    pub last_seq: u64,
    /// Whether its box lives.
    pub live: bool,
    /// Whether its last event is its end.
    pub ended: bool,
    /// Whether its box is to stand still, as far as the host was told.
    #[serde(default)]
    pub still: bool,
}

/// Server → operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Down {
    /// Make a box for this run; if a journal of it is there, it is its next attempt on the kept worktree.
    Launch(Box<Launch>),
    /// Everything up to `seq` of the run is durable here.
    Ack {
        /// The run.
        run: RunId,
        /// The last number taken.
        seq: u64,
    },
    /// Send again what follows `after`.
    Resend {
        /// The run.
        run: RunId,
        /// The last number the server has; 0 for none.
        after: u64,
    },
    /// End the run on a person's word.
    Cancel {
        /// The run.
        run: RunId,
    },
    /// Have every process of the run's box stand still, on a person's word. Changes nothing where they do already, or
    /// where there is no box.
    Pause {
        /// The run.
        run: RunId,
    },
    /// Let them go on. A run without a box is told of anew, for its next attempt.
    Resume {
        /// The run.
        run: RunId,
    },
    /// End a run that has no box: bring home what it changed, then record its end as failed, for this reason.
    Close {
        /// The run.
        run: RunId,
        /// Whole sentences.
        reason: String,
    },
    /// From now on a box is to wait for a run of each of these profiles, as they are now, and for no other.
    Warm {
        /// The most wanted first.
        profiles: Vec<Profile>,
    },
    /// Do something about the worktrees that are kept.
    Kept {
        /// To know the answer by.
        id: u64,
        /// What.
        what: KeptAct,
    },
    /// What came of [`Up::Image`].
    Image {
        /// Which question.
        id: u64,
        /// Why no box may be made of it, by names alone; none where nothing is in the way.
        refused: Option<String>,
    },
    /// The run is over and its result taken: drop its journal and worktree. Changes that the host did not bring home
    /// are kept.
    Settle {
        /// The run.
        run: RunId,
    },
    /// Bytes for an exec's standard input.
    Input {
        /// The run.
        run: RunId,
        /// Base 64; empty text with `end` for the end alone.
        data_b64: String,
        /// Whether this is the end.
        end: bool,
    },
    /// A signed head of the evidence, to keep.
    Head {
        /// A C2SP signed note.
        head: String,
    },
}

/// A run to be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The run.
    pub run: RunId,
    /// This attempt's box.
    pub box_id: BoxId,
    /// From 1.
    pub attempt: u32,
    /// What it does.
    pub kind: RunKind,
    /// Repository on the host, absolute; none for an empty worktree.
    pub repo: Option<std::path::PathBuf>,
    /// The commit to start from, once known (from the first attempt's `base` event).
    pub base: Option<String>,
    /// What it may be.
    pub profile: Profile,
    /// Whether the result is imported into the repository as `volary/<run>`.
    pub import: bool,
    /// Who is to be the author of that result.
    #[serde(default)]
    pub author: Option<Author>,
    /// For an agent.
    pub agent: Option<LaunchAgent>,
    /// For an exec: program and arguments.
    pub argv: Vec<String>,
    /// For an exec: the lease under which its command runs; refused by the server when it may not be used.
    #[serde(default)]
    pub lease: Option<model::LeaseId>,
    /// For an exec: its run's handle, which is for no model, and which its command alone is given.
    #[serde(default)]
    pub handle: Option<String>,
    /// Commands that were running when an earlier attempt broke off are told to the agent through this: the steps of its loop so far.
    pub history: Vec<Value>,
    /// Ids of the tool calls whose results the record holds as `tool-result` events: a box may have died between a
    /// step and the event that shows it.
    #[serde(default)]
    pub answered: Vec<String>,
    /// Variables that every command of the box finds: the profile's literals, and what git needs.
    #[serde(default)]
    pub variables: Vec<(String, String)>,
    /// Where the repository is to be cloned from first; `repo` is none then.
    #[serde(default)]
    pub clone: Option<LaunchClone>,
}

/// A repository at a git host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchClone {
    /// Its address at the run's own door.
    pub address: String,
    /// The handle that is shown there.
    pub handle: String,
}

/// The agent's part of a [`Launch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchAgent {
    /// The task.
    pub task: String,
    /// The run's opaque handle for its model.
    pub handle: String,
    /// The model.
    pub model: ModelRoute,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_box_wrote_crosses_the_link_byte_by_byte() {
        let event = r#"{"kind":"later","x":1.50,  "y":[ ]}"#;
        let up = Up::Event {
            run: RunId::parse("r1").unwrap(),
            seq: 7,
            at: Moment(3),
            event: RawValue::from_string(event.into()).unwrap(),
        };
        match serde_json::from_slice(&serde_json::to_vec(&up).unwrap()).unwrap() {
            Up::Event { run, seq: 7, at: Moment(3), event: back } => {
                assert_eq!((run.as_str(), back.get()), ("r1", event));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_other_word_of_the_operator_survives_the_wire_too() {
        let text = crate::grants::WireSecret(model::Secret::new("A=b".to_owned()));
        let word = Word { of: "a variable of it".into(), text };
        let known = Known { run: RunId::parse("r1").unwrap(), last_seq: 3, live: true, ended: false, still: true };
        for up in [
            Up::Hello { host: "h".into(), runs: vec![known] },
            Up::Hello { host: "h".into(), runs: vec![] },
            Up::Witnessed { head: "x\n".into() },
            Up::Took { run: RunId::parse("r1").unwrap(), bytes: 7 },
            Up::Kept { id: 3, answer: KeptAnswer::List { kept: vec![] } },
            Up::Kept { id: 4, answer: KeptAnswer::Failed { why: "no".into() } },
            Up::Image { id: 5, words: vec![word] },
        ] {
            let text = serde_json::to_string(&up).unwrap();
            let back: Up = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), text);
        }
        assert!(serde_json::from_str::<Up>(r#"{"say":"event","run":"r1"}"#).is_err());
        assert!(serde_json::from_str::<Up>(r#"{"say":"sing"}"#).is_err());
    }
}
