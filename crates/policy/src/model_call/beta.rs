//! What a call may switch on by a header: Anthropic's `anthropic-beta`, OpenAI's `openai-beta`. Both hold names
//! of features; a name can make the vendor do what no field of the body shows, so they are an allow list too.

use super::object::short;
use crate::Refusal;

/// A feature, and why it is allowed or refused.
type Named = (&'static str, &'static str);

/// Anthropic's that change only how what was sent is read, how the answer is written, or what it may hold.
pub(super) const ANTHROPIC: [Named; 27] = [
    ("adaptive-thinking-2026-01-28", "the model chooses how long to think"),
    (
        "advanced-tool-use-2025-11-20",
        "more of a tool's description; tools that the vendor runs are refused by their type",
    ),
    ("claude-code-20250219", "names the client"),
    ("computer-use-2024-10-22", "describes a tool that the agent runs"),
    ("computer-use-2025-01-24", "describes a tool that the agent runs"),
    ("computer-use-2025-11-24", "describes a tool that the agent runs"),
    ("context-management-2025-06-27", "leaves parts of what was sent unread; describes a tool that the agent runs"),
    ("dev-full-thinking-2025-05-14", "shows more of the thinking"),
    ("effort-2025-11-24", "says how thoroughly to work"),
    ("extended-cache-ttl-2025-04-11", "the prompt's cache may last an hour, which is metered at its own price"),
    ("fine-grained-tool-streaming-2025-05-14", "streams the inputs of tools earlier"),
    ("interleaved-thinking-2025-05-14", "the model thinks between calls of tools"),
    ("model-context-window-exceeded-2025-08-26", "names one more reason to stop"),
    ("output-128k-2025-02-19", "a longer answer, within max_tokens"),
    ("output-300k-2026-03-24", "a longer answer, within max_tokens"),
    ("pdfs-2024-09-25", "reads documents that stand in the request"),
    ("prompt-caching-2024-07-31", "the prompt's cache lasts five minutes, which is metered"),
    ("redact-thinking-2026-02-12", "shows less of the thinking"),
    ("structured-outputs-2025-09-17", "writes the answer by a schema in the request"),
    ("structured-outputs-2025-11-13", "writes the answer by a schema in the request"),
    ("structured-outputs-2025-12-15", "writes the answer by a schema in the request"),
    ("token-counting-2024-11-01", "counts"),
    ("token-efficient-tools-2025-02-19", "writes calls of tools shorter"),
    ("token-efficient-tools-2026-03-28", "writes calls of tools shorter"),
    ("tool-examples-2025-10-29", "reads examples that stand in the request"),
    ("tool-streaming-2025-05-14", "streams the inputs of tools earlier"),
    ("max-tokens-3-5-sonnet-2024-07-15", "a longer answer, within max_tokens"),
];

/// Anthropic's that are known and refused.
pub(super) const ANTHROPIC_REFUSED: [Named; 16] = [
    ("advisor-tool-2026-03-01", "the vendor would ask another model than the run's"),
    ("code-execution-2025-05-22", "the vendor would run code"),
    ("code-execution-2025-08-25", "the vendor would run code"),
    ("compact-2026-01-12", "the vendor's own summaries are paid beside what the answer reports as used"),
    ("context-1m-2025-08-07", "the price table does not know what a long context costs"),
    ("fast-mode-2026-02-01", "the price table does not know what it costs"),
    ("files-api-2025-04-14", "the vendor would store files"),
    ("files-api-2025-04-15", "the vendor would store files"),
    ("mcp-client-2025-04-04", "the vendor would call other servers"),
    ("mcp-client-2025-11-20", "the vendor would call other servers"),
    ("message-batches-2024-09-24", "the vendor would store the call and work on after the run has ended"),
    ("oauth-2025-04-20", "it is for a credential of another kind than the one that is set for this model"),
    ("skills-2025-10-02", "the vendor would run code"),
    ("user-profiles-2026-03-24", "the vendor would take something it stored"),
    ("web-fetch-2025-09-10", "the vendor would fetch addresses"),
    ("web-search-2025-03-05", "the vendor would search the web"),
];

/// OpenAI's that are allowed.
pub(super) const OPENAI: [Named; 1] =
    [("responses=experimental", "the early name of /v1/responses, whose body is judged")];

/// OpenAI's that are known and refused.
pub(super) const OPENAI_REFUSED: [Named; 2] = [
    ("assistants=v1", "the vendor would store the conversation"),
    ("assistants=v2", "the vendor would store the conversation"),
];

/// The headers that [`betas`] judges.
pub const BETA_HEADERS: [&str; 2] = ["anthropic-beta", "openai-beta"];

/// Judges one value of a header of [`BETA_HEADERS`] (in lower case): names with commas between them.
///
/// # Errors
/// `model.beta`, which names the first feature that is not allowed, and why.
pub fn betas(header: &str, value: &str) -> Result<(), Refusal> {
    let (allowed, refused): (&[Named], &[Named]) = match header {
        "anthropic-beta" => (&ANTHROPIC, &ANTHROPIC_REFUSED),
        _ => (&OPENAI, &OPENAI_REFUSED),
    };
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let is = |(known, _): &&Named| *known == name;
        if allowed.iter().any(|known| is(&known)) {
            continue;
        }
        let because = refused.iter().find(is).map_or(
            "it is not on the list of features known to make the vendor neither fetch, store, call out nor run code, \
             at a known price",
            |(_, because)| because,
        );
        return Err(Refusal::new(
            "model.beta",
            format!(
                "Policy, not a fault: {} of the header {header} is refused, because {because}. Send the request \
                 without it.",
                short(name)
            ),
        ));
    }
    Ok(())
}
