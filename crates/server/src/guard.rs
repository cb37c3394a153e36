//! Guards: who may call a route, as the type of its handler's first argument.
//!
//! [`crate::routes::Routes::add`] takes only handlers whose first argument is a [`Guard`], so a route without
//! one does not compile. A guard runs before anything of the request's body is read.

use crate::app::App;
use crate::fault::Fault;
use crate::port::Account;
use crate::{session, sign_in};
use axum::extract::FromRequestParts;
use http::request::Parts;
use model::PersonId;
use policy::access::{GuardKind, Scope, Scopes};
use std::marker::PhantomData;

/// The listener that a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `run/api.sock`: whoever could connect is the enrolled administrator.
    Home,
    /// The loopback port: whoever shows a session's cookie.
    Tcp,
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The person.
    pub person: PersonId,
    /// As shown to people.
    pub name: String,
    /// What the person may.
    pub scopes: Scopes,
    /// Where the request came in.
    pub door: Door,
    /// Hash of the session's token, for a caller with a session.
    pub session: Option<String>,
}

/// What a handler's first argument has to be.
pub trait Guard {
    /// What it demands.
    const KIND: GuardKind;
}

/// A handler's arguments, the first of which is a [`Guard`].
#[diagnostic::on_unimplemented(
    message = "a route's handler must begin with a guard",
    label = "the first argument of this handler is not one of Scoped<_>, SelfOnly, Public, Internal"
)]
pub trait FirstGuard {
    /// What the guard demands.
    const KIND: GuardKind;
}

macro_rules! first_guard {
    ($($rest:ident)*) => {
        impl<M, G: Guard, $($rest),*> FirstGuard for (M, G, $($rest,)*) {
            const KIND: GuardKind = G::KIND;
        }
    };
}
first_guard!();
first_guard!(A);
first_guard!(A B);
first_guard!(A B C);
first_guard!(A B C D);

/// Anyone may call.
#[derive(Debug, Clone, Copy)]
pub struct Public;

/// Signed in; the handler answers with the caller's own only.
#[derive(Debug, Clone)]
pub struct SelfOnly(pub Caller);

/// Our own processes over the home's socket; never over the port.
#[derive(Debug, Clone, Copy)]
pub struct Internal;

/// Signed in, and holding the scope that `S` stands for.
#[derive(Debug, Clone)]
pub struct Scoped<S> {
    /// Who.
    pub caller: Caller,
    scope: PhantomData<S>,
}

/// A type that stands for a scope.
pub trait Right {
    /// The scope.
    const SCOPE: Scope;
}

/// One type for each scope that a route demands.
pub mod right {
    use super::{Right, Scope};

    macro_rules! rights {
        ($($name:ident)*) => {$(
            #[doc = concat!("Stands for [`Scope::", stringify!($name), "`].")]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;
            impl Right for $name { const SCOPE: Scope = Scope::$name; }
        )*};
    }
    rights!(
        RunsRead RunsCreate RunsCancel RunsPause RunsPropose SecretsList SecretsSet SecretsDelete ModelsRead ModelsManage ProfilesEdit EvidenceRead
        ConsoleSignInLink PlatformStatus LeasesRead LeasesRevoke ConnectionsRead ConnectionsManage VaultRotate VaultBackup
    );
}

impl Guard for Public {
    const KIND: GuardKind = GuardKind::Public;
}
impl Guard for SelfOnly {
    const KIND: GuardKind = GuardKind::SelfOnly;
}
impl Guard for Internal {
    const KIND: GuardKind = GuardKind::Internal;
}
impl<S: Right> Guard for Scoped<S> {
    const KIND: GuardKind = GuardKind::Scope(S::SCOPE);
}

impl FromRequestParts<App> for Public {
    type Rejection = Fault;
    async fn from_request_parts(_: &mut Parts, _: &App) -> Result<Self, Fault> {
        Ok(Self)
    }
}

impl FromRequestParts<App> for SelfOnly {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        caller(parts, app).await.map(Self)
    }
}

impl FromRequestParts<App> for Internal {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Fault> {
        match door(parts) {
            Door::Home => Ok(Self),
            Door::Tcp => Err(Fault::forbidden("This is answered over the home's own socket only.")),
        }
    }
}

impl<S: Right + Send> FromRequestParts<App> for Scoped<S> {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        let caller = caller(parts, app).await?;
        if !caller.scopes.holds(S::SCOPE) {
            return Err(Fault::forbidden(&format!("This takes the scope {}, which you do not have.", S::SCOPE)));
        }
        Ok(Self { caller, scope: PhantomData })
    }
}

/// A request that says nothing of its door came in by none of ours: treat it as the one that proves nothing.
fn door(parts: &Parts) -> Door {
    parts.extensions.get::<Door>().copied().unwrap_or(Door::Tcp)
}

/// Finds out who is calling.
///
/// # Errors
/// 401 for nobody we know.
async fn caller(parts: &Parts, app: &App) -> Result<Caller, Fault> {
    let administrator = |door, session| Caller {
        person: app.administrator.clone(),
        name: app.administrator_name.clone(),
        scopes: Scopes::administrator(),
        door,
        session,
    };
    if door(parts) == Door::Home {
        return Ok(administrator(Door::Home, None));
    }
    let fault = || Fault::unauthorized(sign_in::HOW);
    let token = session::token(&parts.headers, app.port).ok_or_else(fault)?;
    let account = parts.extensions.get::<Account>().copied().unwrap_or(Account(None));
    let hash = session::hash(&token, account).ok_or_else(fault)?;
    let session = session::live(app.store.session(&hash).await?, crate::now()).ok_or_else(fault)?;
    // One person is enrolled until people and roles exist; a session of anyone else is nobody's.
    if session.person != app.administrator {
        return Err(fault());
    }
    Ok(administrator(Door::Tcp, Some(hash)))
}
