//! `volary model`: name a provider's model so that runs can use it.

use super::platform;
use crate::home::Home;
use anyhow::{Context, bail};
use api::http::{ModelView, Tested};
use clap::{Subcommand, ValueEnum};
use hyper::Method;
use model::provider::Price;
use model::{Dialect, MicroDollars};
use std::path::PathBuf;

/// A known provider, or any that speaks the OpenAI format.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Provider {
    /// api.anthropic.com
    Anthropic,
    /// api.openai.com
    Openai,
    /// generativelanguage.googleapis.com
    Gemini,
    /// Any server that speaks the OpenAI format; needs --base (Ollama, vLLM …)
    OpenaiCompatible,
    /// A file of turns, served by the gateway over the real wire format; needs --script
    Scripted,
}

/// Which format our own agent speaks, where a provider has several.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Api {
    /// Chat Completions, which every compatible server has
    Chat,
    /// Responses, in which OpenAI's reasoning models keep their reasoning from one call to the next
    Responses,
    /// Gemini's generateContent; of a scripted model only
    Gemini,
}

/// What can be done with models.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Add or change one
    Add {
        /// The name runs will use
        name: String,
        /// Who serves it
        #[arg(long, value_enum)]
        provider: Provider,
        /// Format of OpenAI's (chat unless said otherwise), or of a scripted model
        #[arg(long, value_enum)]
        api: Option<Api>,
        /// The provider's own id of the model
        #[arg(long, value_name = "ID")]
        id: String,
        /// Base URL, for openai-compatible (or a proxy of the others)
        #[arg(long, value_name = "URL")]
        base: Option<String>,
        /// Secret that holds the key [default: model/PROVIDER; none for openai-compatible]
        #[arg(long)]
        secret: Option<String>,
        /// Allow a base that is not a public address (a model server in your own network); recorded
        #[arg(long)]
        internal: bool,
        /// Price in dollars per million tokens: input,output[,cache read,cache write[,one-hour cache write]]; known models need none
        #[arg(long, value_name = "IN,OUT")]
        price: Option<String>,
        /// Most tokens written in one call
        #[arg(long, default_value_t = 16_384)]
        max_output_tokens: u64,
        /// Tokens of the context window
        #[arg(long, default_value_t = 200_000)]
        context_tokens: u64,
        /// A JSON file of turns, for scripted
        #[arg(long, value_name = "FILE")]
        script: Option<PathBuf>,
    },
    /// List them
    List {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Make the smallest call to one
    Test {
        /// Its name
        name: String,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Delete one
    Delete {
        /// Its name
        name: String,
    },
}

/// Carries it out.
pub async fn main(home: &Home, act: &Act) -> anyhow::Result<i32> {
    match act {
        Act::Add { name, .. } => {
            let view = view(act)?;
            let platform = platform::reach(home).await?;
            platform.client.act(Method::PUT, &format!("/api/models/{}", segment(name)?), &view).await?;
            println!("{name} is ready; try it: volary model test {name}");
            Ok(0)
        }
        Act::List { json } => {
            let platform = platform::reach_made(home).await?;
            let all: Vec<ModelView> = platform.client.get("/api/models").await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&all)?);
                return Ok(0);
            }
            if all.is_empty() {
                println!("No models yet. Add one: volary model add claude --provider anthropic --id MODEL");
            }
            for m in all {
                let price = m.price.map_or_else(String::new, |p| format!("{} / {} per million", p.input, p.output));
                println!("{:<16} {:<28} {:<36} {price}", m.name, m.id, m.base);
            }
            Ok(0)
        }
        Act::Test { name, json } => {
            let platform = platform::reach_made(home).await?;
            let tested: Tested =
                platform.client.post(&format!("/api/models/{}/test", segment(name)?), &serde_json::json!({})).await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&tested)?);
                return Ok(i32::from(!tested.ok));
            }
            println!("{}: {}", if tested.ok { "ok" } else { "failed" }, super::show::plain(&tested.said));
            Ok(i32::from(!tested.ok))
        }
        Act::Delete { name } => {
            let platform = platform::reach_made(home).await?;
            platform
                .client
                .act(Method::DELETE, &format!("/api/models/{}", segment(name)?), &serde_json::json!({}))
                .await?;
            println!("{name} is deleted");
            Ok(0)
        }
    }
}

/// A model's name is one segment of a path.
fn segment(name: &str) -> anyhow::Result<&str> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        bail!("{name:?} is no name of a model: a-z, 0-9 and '-'");
    }
    Ok(name)
}

fn view(act: &Act) -> anyhow::Result<ModelView> {
    let Act::Add { name, provider, api, id, base, secret, internal, price, max_output_tokens, context_tokens, script } =
        act
    else {
        bail!("not an addition");
    };
    let (dialect, usual_base, usual_secret) = match provider {
        Provider::Anthropic => (Dialect::Anthropic, Some("https://api.anthropic.com"), Some("model/anthropic")),
        Provider::Openai => (Dialect::Openai, Some("https://api.openai.com"), Some("model/openai")),
        Provider::Gemini => (Dialect::Gemini, Some("https://generativelanguage.googleapis.com"), Some("model/gemini")),
        Provider::OpenaiCompatible => (Dialect::Openai, None, None),
        Provider::Scripted => (Dialect::Anthropic, Some("script:"), Some("model/scripted")),
    };
    let dialect = match (provider, api) {
        (Provider::Anthropic, Some(_)) => bail!("--api is for the formats of OpenAI; anthropic has one format"),
        (Provider::Gemini, Some(_)) => bail!("--api is for the formats of OpenAI; gemini has one format"),
        (Provider::Scripted, Some(Api::Gemini)) => Dialect::Gemini,
        (_, Some(Api::Gemini)) => bail!("--api gemini is for --provider scripted; use --provider gemini"),
        (_, Some(Api::Chat)) => Dialect::Openai,
        (_, Some(Api::Responses)) => Dialect::OpenaiResponses,
        (_, None) => dialect,
    };
    let base = base.clone().or_else(|| usual_base.map(str::to_owned)).context(
        "an openai-compatible model needs --base URL, e.g. --base http://127.0.0.1:11434 --internal for a local Ollama",
    )?;
    let turns = match (provider, script) {
        (Provider::Scripted, Some(path)) => {
            let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("{} is no list of turns", path.display()))?
        }
        (Provider::Scripted, None) => bail!("a scripted model needs --script FILE"),
        (_, Some(_)) => bail!("--script is for --provider scripted"),
        _ => Vec::new(),
    };
    Ok(ModelView {
        name: name.clone(),
        dialect,
        base,
        // The vendor's lists name a model with the folder that its path adds by itself.
        id: if dialect == Dialect::Gemini { id.trim_start_matches("models/").to_owned() } else { id.clone() },
        secret: secret.clone().or_else(|| usual_secret.map(str::to_owned)),
        internal: *internal,
        price: price.as_deref().map(parse_price).transpose()?,
        max_output_tokens: *max_output_tokens,
        context_tokens: *context_tokens,
        script: turns,
    })
}

/// `3,15` or `3,15,0.30,3.75`: dollars per million tokens, at most six decimals.
fn parse_price(text: &str) -> anyhow::Result<Price> {
    let parts: Vec<MicroDollars> = text.split(',').map(dollars).collect::<anyhow::Result<_>>()?;
    match parts[..] {
        [input, output] => Ok(Price { cache_read: input, cache_write: input, input, output, ..Price::default() }),
        [input, output, cache_read, cache_write] => {
            Ok(Price { input, output, cache_read, cache_write, ..Price::default() })
        }
        [input, output, cache_read, cache_write, cache_write_1h] => {
            Ok(Price { input, output, cache_read, cache_write, cache_write_1h })
        }
        _ => bail!(
            "a price is IN,OUT or IN,OUT,CACHE-READ,CACHE-WRITE[,ONE-HOUR-CACHE-WRITE] in dollars per million tokens, \
             e.g. 3,15"
        ),
    }
}

/// Dollars as integers all the way: no floating point comes near a price.
fn dollars(text: &str) -> anyhow::Result<MicroDollars> {
    let text = text.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 6 {
        bail!("{text:?} is no amount of dollars, e.g. 3 or 0.25");
    }
    let micro = format!("{part:0<6}").parse::<u64>()?;
    let whole = whole.parse::<u64>()?.checked_mul(1_000_000).context("that is too many dollars")?;
    Ok(MicroDollars(whole.checked_add(micro).context("that is too many dollars")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_without_rounding() {
        let price = parse_price("3,15,0.30,3.75").unwrap();
        assert_eq!(price.cache_read, MicroDollars(300_000));
        assert_eq!(price.output, MicroDollars(15_000_000));
        assert_eq!(price.hour_write(), MicroDollars(3_750_000));
        assert_eq!(parse_price("3,15,0.30,3.75,6").unwrap().hour_write(), MicroDollars(6_000_000));
        for bad in ["", "3", "3,", "-1,2", "1e3,2", "0.0000001,1", "99999999999999,1"] {
            assert!(parse_price(bad).is_err(), "{bad:?}");
        }
    }
}
