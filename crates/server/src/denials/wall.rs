//! Which wall a refusal met, in one sentence, by the family of its rule.

/// The sentence for a rule's name.
pub fn of(rule: &str) -> &'static str {
    match rule.split('.').next().unwrap_or_default() {
        "read" | "write" | "upgrade" | "port" => {
            "The profile's table of what may leave: reads go by method, writes by row; what no row allows is refused."
        }
        "handle" => {
            "The run's handle: it works for this run alone, where a credential stands, on a row that names its capability."
        }
        "value" => {
            "Values of secrets leave in a handle's place alone, put in by the gateway for the host that they are for."
        }
        "host" | "address" => {
            "Public hosts only: a name is resolved once, every address of it is judged, and the connection goes to one \
             of those; a service inside takes an exception of the profile."
        }
        "target" | "request" | "method" | "body" => {
            "One reading: a request that programs on the way could read in two ways, or that asks for more than its \
             method says, goes no further."
        }
        "connect" | "tunnel" => "HTTPS is opened and judged; a blind tunnel is an exception for package registries.",
        "websocket" => {
            "A WebSocket is read frame by frame, both ways: no handle goes out in one, and no credential comes back."
        }
        "inject" => "A credential goes in last, where host, address, certificate and name agree; here they did not.",
        "egress" | "upstream" | "run" => "Limits of the way out, and what was found on the other side of it.",
        "model" => "The run's one model: listed paths and fields, within the run's budget.",
        "budget" | "tokens" | "cost" => "The run's budget, as its profile sets it.",
        "door" => "The box's one door: beside the model and the forward proxy nothing answers there.",
        "lease" => {
            "Leases: a capability of the profile, for its destinations, by its programs, so often and so long; each is \
             recorded before it is granted."
        }
        "git" => {
            "The run's own git address: what is fetched and pushed is read, listed and bounded by the profile's repository."
        }
        "forge" => {
            "What no handle does at a forge: merging, approving, opening proposals and all that stands in docs/generated/forges.md."
        }
        "propose" => "A proposal is opened by the server, for what this run pushed and nothing else.",
        "delivery" | "capability" | "secret" => {
            "Secret policy: where a credential may travel in which phase, by docs/generated/delivery.md."
        }
        "mint" => "A vendor's narrower value: it is given only as narrow and as short as it was asked for.",
        "image" => "Images: they come by their digest, from the profile's registry, and hold no secret.",
        "record" | "server" | "law" => "Nothing leaves that could not be judged and recorded.",
        _ => "The gateway: what no rule allows is refused.",
    }
}
