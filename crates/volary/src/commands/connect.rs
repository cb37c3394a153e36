//! `volary connect`: OAuth connections: add, list, sign in, end. No token is ever shown.

use super::{log, platform, secrets};
use crate::home::Home;
use anyhow::bail;
use api::connections::{
    ClientAuth, ConnectionEnded, ConnectionRemoved, ConnectionSettings, ConnectionView, SetConnection,
};
use api::grants::WireSecret;
use clap::Subcommand;
use hyper::Method;
use serde_json::json;
use std::time::Duration;

/// How often a sign-in by a device is asked after.
const AGAIN: Duration = Duration::from_secs(1);

/// What can be done with connections.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Add one, or set one anew that is not signed in
    Add(Box<Add>),
    /// List them: how each stands, until when, who signed in
    List {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Sign in: by a device's code where the provider has that, else in the console
    SignIn {
        /// The connection
        name: String,
        /// In the console, with a browser
        #[arg(long)]
        browser: bool,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Have its token fresh, if it can be, and say how it stands
    Test {
        /// The connection
        name: String,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// End it, here and at its provider
    Revoke {
        /// The connection
        name: String,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Remove one that is not signed in
    Remove {
        /// The connection
        name: String,
        /// For machines
        #[arg(long)]
        json: bool,
    },
}

/// What a connection is.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The name by which profiles name it: connection/NAME
    name: String,
    /// A known provider, whose addresses are taken where none are given
    #[arg(long)]
    provider: Option<String>,
    /// Where a person signs in
    #[arg(long, value_name = "URL")]
    authorize_url: Option<String>,
    /// Where tokens come from
    #[arg(long, value_name = "URL", required_unless_present = "provider")]
    token_url: Option<String>,
    /// Where a device gets its code
    #[arg(long, value_name = "URL")]
    device_url: Option<String>,
    /// Where a token is ended
    #[arg(long, value_name = "URL")]
    revoke_url: Option<String>,
    /// The client's id at the provider; its address to send browsers back to is http://127.0.0.1:PORT/connections/callback
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// The client has a secret, which is read from a prompt or standard input
    #[arg(long)]
    client_secret: bool,
    /// Show the client's secret in the form, for a provider that takes it nowhere else
    #[arg(long, requires = "client_secret")]
    secret_in_form: bool,
    /// What to ask for, divided by spaces or commas
    #[arg(long, default_value = "")]
    scopes: String,
    /// Allow addresses that are not public (a provider in your own network); recorded
    #[arg(long)]
    internal: bool,
    /// A host that its token is for, beside the one that it comes from and those that are known to be its provider's; again for more
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Carries it out.
pub async fn main(home: &Home, act: &Act) -> anyhow::Result<i32> {
    match act {
        Act::Add(add) => {
            let wish = wish(add).await?;
            let platform = platform::reach(home).await?;
            let client = &platform.client;
            client.act(Method::PUT, &path(&add.name, "")?, &wish).await?;
            let view: ConnectionView = client.get(&path(&add.name, "")?).await?;
            show(&view, add.json)?;
            if !add.json {
                println!("Sign in to it: volary connect sign-in {}", add.name);
            }
        }
        Act::List { json } => {
            let platform = platform::reach_made(home).await?;
            let all: Vec<ConnectionView> = platform.client.get("/api/connections").await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&all)?);
            } else if all.is_empty() {
                println!("No connections yet. Add one: volary connect add NAME --provider gitlab --client-id ID");
            } else {
                all.iter().for_each(line);
            }
        }
        Act::SignIn { name, browser, json } => return sign_in(home, name, *browser, *json).await,
        Act::Test { name, json } => {
            let platform = platform::reach_made(home).await?;
            show(&platform.client.post(&path(name, "/test")?, &json!({})).await?, *json)?;
        }
        Act::Revoke { name, json } => {
            let platform = platform::reach_made(home).await?;
            let over: ConnectionEnded = platform.client.post(&path(name, "/revoke")?, &json!({})).await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&over)?);
                return Ok(0);
            }
            show(&over.connection, false)?;
            let here = if over.connection.state == "revoking" { " here" } else { "" };
            println!("{name} is ended{here}{}", super::secrets::ended(over.leases));
            if over.connection.settings.revoke_url.is_none() {
                println!("Its provider has no address at which tokens are ended: end them in your account there too.");
            }
        }
        Act::Remove { name, json } => {
            let platform = platform::reach_made(home).await?;
            let removed: ConnectionRemoved = platform.client.delete(&path(name, "")?).await?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&removed)?);
                return Ok(0);
            }
            println!("{name} is removed");
            match removed.left {
                0 => {}
                1 => println!(
                    "Its provider has not confirmed that a token of it is ended: end it in your account there."
                ),
                n => println!(
                    "Its provider has not confirmed that {n} tokens of it are ended: end them in your account there."
                ),
            }
        }
    }
    Ok(0)
}

async fn wish(add: &Add) -> anyhow::Result<SetConnection> {
    let client_secret = match add.client_secret {
        true => Some(WireSecret(secrets::read_value("the client's secret").await?)),
        false => None,
    };
    let client_auth = match (add.client_secret, add.secret_in_form) {
        (false, _) => ClientAuth::None,
        (true, false) => ClientAuth::Basic,
        (true, true) => ClientAuth::Post,
    };
    let words = add.scopes.split([' ', ',']).filter(|word| !word.is_empty());
    let settings = ConnectionSettings {
        provider: add.provider.clone(),
        authorize_url: add.authorize_url.clone(),
        token_url: add.token_url.clone().unwrap_or_default(),
        device_url: add.device_url.clone(),
        revoke_url: add.revoke_url.clone(),
        client_id: add.client_id.clone(),
        client_auth,
        scopes: words.map(str::to_owned).collect(),
        internal: add.internal,
        hosts: add.host.clone(),
    };
    Ok(SetConnection { settings, client_secret })
}

async fn sign_in(home: &Home, name: &str, browser: bool, json: bool) -> anyhow::Result<i32> {
    let platform = platform::reach_made(home).await?;
    let client = &platform.client;
    let view: ConnectionView = client.get(&path(name, "")?).await?;
    if browser || view.settings.device_url.is_none() {
        let link = client.sign_in().await?;
        let page = link.url.split("/sign-in/").next().unwrap_or_default().to_owned() + "/connections";
        if json {
            println!("{}", serde_json::to_string_pretty(&json!({ "page": page, "sign_in": link }))?);
        } else {
            println!("Sign in to {name} on the console's page of connections: {page}");
            println!("A browser that the console does not know yet opens this first, once: {}", link.url);
        }
        return Ok(0);
    }
    let mut view: ConnectionView = client.post(&path(name, "/device")?, &json!({})).await?;
    if let (Some(device), false) = (&view.device, json) {
        println!("Open {} and type {}", device.verification_uri, device.user_code);
        println!("The code works until {}; this waits for you.", log::when(device.expires));
    }
    while view.device.as_ref().is_some_and(|device| device.said == "waiting") {
        tokio::time::sleep(AGAIN).await;
        view = client.get(&path(name, "")?).await?;
    }
    show(&view, json)?;
    let done = view.device.as_ref().is_some_and(|device| device.said == "signed in");
    if !done && !json {
        let said = view.device.map_or_else(|| "it was ended meanwhile".to_owned(), |device| device.said);
        bail!("there is no sign-in: {said}");
    }
    Ok(i32::from(!done))
}

fn show(view: &ConnectionView, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(view)?);
    } else {
        line(view);
    }
    Ok(())
}

fn line(view: &ConnectionView) {
    let until = view.expires.map_or_else(String::new, |at| format!(", token until {}", log::when(at)));
    let last = view.refreshed.map_or_else(String::new, |at| format!(", refreshed {}", log::when(at)));
    println!("{:<24} {:<9} {}{until}{last}", view.name, view.state, view.said);
}

/// Names stand in a path as they are: the server takes `a-z`, `0-9` and `-` only, and puts `@` into the name of what is left of
/// one that is no more.
fn path(name: &str, more: &str) -> anyhow::Result<String> {
    if name.is_empty()
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'@'))
    {
        bail!("{name:?} is no name of a connection: a-z, 0-9 and '-'");
    }
    Ok(format!("/api/connections/{name}{more}"))
}
