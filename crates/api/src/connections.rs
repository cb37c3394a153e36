//! OAuth connections, as people see and set them. No token is in any of it.

use crate::grants::WireSecret;
use model::Moment;
use serde::{Deserialize, Serialize};

/// How a client shows its own secret to a token endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// It has none (a public client).
    #[default]
    None,
    /// In the `Authorization` header.
    Basic,
    /// In the form.
    Post,
}

/// What an administrator sets of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionSettings {
    /// A known provider, whose addresses are taken where none are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Where a person signs in; none if only devices can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    /// Where tokens come from.
    pub token_url: String,
    /// Where a device gets its code; none if there is no device grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_url: Option<String>,
    /// Where a token is ended; none if the provider has no such address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoke_url: Option<String>,
    /// The client's id at the provider.
    pub client_id: String,
    /// How the client shows its secret.
    pub client_auth: ClientAuth,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The provider is in the own network: its addresses need not be public.
    pub internal: bool,
    /// Hosts that its token is for, beside the one that it comes from and those that are known to be its provider's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// `PUT /api/connections/{name}`
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetConnection {
    /// The settings.
    pub settings: ConnectionSettings,
    /// The client's secret at the provider, where it has one. It is sealed and never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, write_only))]
    pub client_secret: Option<WireSecret>,
}

/// A sign-in by a device, while it waits for its person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceView {
    /// What to type in there.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// When the code stops working.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub expires: Moment,
    /// How it stands: `waiting`, or why it ended.
    pub said: String,
}

/// `GET /api/connections`, and the answer to every change but its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConnectionView {
    /// Its name. A profile names its access token as the secret `connection/NAME`.
    pub name: String,
    /// The settings.
    pub settings: ConnectionSettings,
    /// `new`, `live`, `lapsed`, `revoking` or `revoked`.
    pub state: String,
    /// What that means, in one sentence.
    pub said: String,
    /// When the access token is over, if the provider says.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub expires: Option<Moment>,
    /// When its tokens were last kept.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub refreshed: Option<Moment>,
    /// How many sets of tokens it has had.
    pub generation: u64,
    /// Who signed in last; empty before that.
    pub signed_in_by: String,
    /// Its tokens whose end the provider has yet to confirm, or was never asked for.
    #[serde(default)]
    pub left: u32,
    /// A sign-in by a device that was begun here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceView>,
}

/// `POST /api/connections/{name}/revoke`: the connection as it is then, and what ended with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConnectionEnded {
    /// The connection.
    #[serde(flatten)]
    pub connection: ConnectionView,
    /// Leases that were open on it: taken back, and what used them is ended.
    pub leases: u32,
}

/// `DELETE /api/connections/{name}`: what nobody ends from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConnectionRemoved {
    /// Its tokens whose end the provider has not confirmed, or was never asked for: they may be good there still.
    pub left: u32,
}
