//! The OpenAPI 3.1 document: paths and guards from the list of routes, schemas from the contract's types.

use crate::routes;
use api::connections::{
    ClientAuth, ConnectionEnded, ConnectionRemoved, ConnectionSettings, ConnectionView, DeviceView, SetConnection,
};
use api::denials::{Allow, Allowed, Blank, ChangeView, DenialView, ProposalView, Terms};
use api::git::{OpenProposal, PullRequestView};
use api::http::{
    CreateRun, ExecLease, Health, Input, ModelView, Problem, ReplaceSecret, RunView, SecretRemoved, SecretView,
    SetSecret, SignInLink, Tested, schema,
};
use api::kept::{KeptImported, KeptWorktree};
use api::leases::{LeaseRevoked, LeaseView};
use api::vault::{RotateVault, RotationTicket, VaultView};
use api::walls::{Forbidden, Proof, Walls};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

/// The document, in JSON.
#[must_use]
pub fn document() -> String {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes::all().list().into_iter().filter(|route| route.path.starts_with("/api/")) {
        let path = route.path.replace("{*", "{");
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        let mut operation = json!({
            "summary": route.summary,
            "x-guard": route.guard.to_string(),
            "parameters": parameters,
            "responses": {
                "2XX": answer(route.answers),
                "default": { "description": "What is wrong and what to do.", "content": body("Problem") },
            },
        });
        if let Some(schema) = route.takes {
            operation["requestBody"] = json!({ "required": true, "content": body(schema) });
        }
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": { "title": "Volary", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas() },
    });
    document.to_string()
}

fn answer(schema: Option<&str>) -> Value {
    match schema {
        None => json!({ "description": "Done." }),
        Some(schema) => json!({ "description": "Done.", "content": body(schema) }),
    }
}

fn body(schema: &str) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let schema = match schema.strip_suffix("[]") {
        Some(item) => json!({ "type": "array", "items": reference(item) }),
        None => reference(schema),
    };
    json!({ "application/json": { "schema": schema } })
}

/// Every schema that a route names, and those that they name.
fn schemas() -> Map<String, Value> {
    fn add<T: ToSchema + PartialSchema>(all: &mut Map<String, Value>) {
        let schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
        all.insert(T::name().into_owned(), schema);
    }
    let mut all = Map::new();
    add::<Allow>(&mut all);
    add::<Allowed>(&mut all);
    add::<Blank>(&mut all);
    add::<ChangeView>(&mut all);
    add::<ClientAuth>(&mut all);
    add::<ConnectionEnded>(&mut all);
    add::<ConnectionRemoved>(&mut all);
    add::<ConnectionSettings>(&mut all);
    add::<ConnectionView>(&mut all);
    add::<CreateRun>(&mut all);
    add::<ExecLease>(&mut all);
    add::<DeviceView>(&mut all);
    add::<SetConnection>(&mut all);
    add::<DenialView>(&mut all);
    add::<Forbidden>(&mut all);
    add::<Health>(&mut all);
    add::<Input>(&mut all);
    add::<KeptImported>(&mut all);
    add::<KeptWorktree>(&mut all);
    add::<LeaseRevoked>(&mut all);
    add::<LeaseView>(&mut all);
    add::<OpenProposal>(&mut all);
    add::<PullRequestView>(&mut all);
    add::<ModelView>(&mut all);
    add::<Problem>(&mut all);
    add::<Proof>(&mut all);
    add::<ProposalView>(&mut all);
    add::<ReplaceSecret>(&mut all);
    add::<RotateVault>(&mut all);
    add::<RotationTicket>(&mut all);
    add::<RunView>(&mut all);
    add::<SecretRemoved>(&mut all);
    add::<SecretView>(&mut all);
    add::<SetSecret>(&mut all);
    add::<SignInLink>(&mut all);
    add::<Terms>(&mut all);
    add::<Tested>(&mut all);
    add::<VaultView>(&mut all);
    add::<Walls>(&mut all);
    add::<schema::Dialect>(&mut all);
    add::<schema::Price>(&mut all);
    add::<schema::RunKind>(&mut all);
    add::<schema::RunState>(&mut all);
    add::<schema::ScriptTool>(&mut all);
    add::<schema::ScriptTurn>(&mut all);
    add::<schema::Usage>(&mut all);
    all
}
