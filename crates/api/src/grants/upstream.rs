//! Where a granted model call goes, and with which credential.

use model::Dialect;
use model::provider::Price;
use serde::{Deserialize, Serialize};

/// A model provider as the gateway reaches it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// Wire format.
    pub dialect: Dialect,
    /// Where it is.
    pub place: Place,
    /// The credential, injected last. Empty when the provider takes none (a local Ollama).
    pub credential: WireSecret,
    /// The name of the secret that the credential is, for the scrubber's placeholder; empty when there is none.
    #[serde(default)]
    pub secret: String,
    /// For metering in the gateway's own log lines; the server computes the cost that counts.
    pub price: Price,
}

/// Where a provider is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "kebab-case")]
pub enum Place {
    /// At a URL set by an administrator.
    Url {
        /// Base, without the inference path: `https://api.anthropic.com`.
        base: String,
        /// The administrator allowed this one non-public address by name (a local model server).
        internal: bool,
    },
    /// The scripted provider, in the gateway itself: answers from these turns over the real wire format.
    Script {
        /// Turn `k` answers the request that holds `k` assistant messages.
        turns: Vec<ScriptTurn>,
    },
}

/// One answer of the scripted model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptTurn {
    /// What it says.
    pub text: String,
    /// Which tools it asks for, all at once.
    pub tools: Vec<ScriptTool>,
    /// Milliseconds to wait before each piece of the stream.
    pub pause_ms: u64,
    /// Answer with this HTTP status instead (429, 529, 500), the first time the turn is asked for.
    pub fail_once: Option<u16>,
    /// Break the stream off in its middle.
    pub cut: bool,
}

/// A tool call of the scripted model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptTool {
    /// The tool.
    pub name: String,
    /// Its input.
    pub input: serde_json::Value,
}

/// A secret on its way over a local socket: the one place where one is serialised.
#[derive(Debug)]
pub struct WireSecret(pub model::Secret<String>);

impl WireSecret {
    /// Of a key's 32 bytes: their 64 hex digits.
    #[must_use]
    pub fn of_key(key: &model::Secret<[u8; 32]>) -> Self {
        let mut digits = String::with_capacity(64);
        key.expose().iter().flat_map(|byte| [byte >> 4, byte & 15]).for_each(|digit| {
            digits.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        });
        Self(model::Secret::new(digits))
    }

    /// The bytes that [`WireSecret::of_key`] took; none if it is no key.
    #[must_use]
    pub fn key(&self) -> Option<model::Secret<[u8; 32]>> {
        let digits = self.0.expose().as_bytes();
        let mut key = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(model::Secret::new(key))
    }
}

impl Serialize for WireSecret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.expose())
    }
}
impl<'de> Deserialize<'de> for WireSecret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(model::Secret::new(text)))
    }
}
