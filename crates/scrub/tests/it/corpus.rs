//! Tokens made after the vendors' descriptions, in the places where tokens stand.
//!
//! A format is written here a second time, apart from the rules: words as they are, and in braces an alphabet with
//! a length. No token stands in this file, and none is real: all come from a counter.

/// For each rule, formats of what it must find. Every rule has at least one.
pub const FORMATS: &[(&str, &str)] = &[
    ("volary-handle", "vh_{b32 52}"),
    ("aws-access-key-id", "AKIA{B32 16}"),
    ("aws-access-key-id", "ASIA{B32 16}"),
    ("aws-secret-access-key", "aws_secret_access_key = <{b64 40}>"),
    ("aws-secret-access-key", "AWS_SECRET_ACCESS_KEY=<{b64 40}>"),
    ("aws-secret-access-key", "SecretAccessKey: <{b64 40}>"),
    ("aws-session-token", "AWS_SESSION_TOKEN=<{b64 356}>"),
    ("aws-bedrock-key", "ABSK{b64 128}"),
    ("gcp-api-key", "AIza{url 35}"),
    ("google-oauth-token", "ya29.{url 140}"),
    ("google-oauth-secret", "GOCSPX-{url 28}"),
    ("google-refresh-token", "1//0{url 60}"),
    ("azure-storage-key", "AccountKey=<{b64 86}==>"),
    ("azure-shared-key", "SharedAccessKey=<{b64 43}=>"),
    ("azure-sas", "?sv=2024&sig=<{an 43}%3D>"),
    ("azure-client-secret", "{an 3}<8Q~{url 34}>"),
    ("digitalocean-token", "dop_v1_{hex 64}"),
    ("alibaba-access-key-id", "LTAI{an 20}"),
    ("tencent-secret-id", "AKID{an 32}"),
    ("heroku-token", "HRKU-{hex 8}-{hex 4}-{hex 4}-{hex 4}-{hex 12}"),
    ("fly-token", "fo1_{url 43}"),
    ("fly-token", "fm2_{b64 400}"),
    ("netlify-token", "nfp_{an 36}"),
    ("render-token", "rnd_{an 28}"),
    ("cloudflare-origin-key", "v1.0-{hex 24}-{hex 146}"),
    ("cloudflare-token", "cfut_{an 48}"),
    ("cloudflare-token", "cfk_{an 48}"),
    ("vercel-token", "vcp_{an 56}"),
    ("vercel-token", "vck_{an 56}"),
    ("vercel-older-token", "VERCEL_TOKEN=<{an 24}>"),
    ("vercel-older-token", "vercel-access-token: <{an 24}>"),
    ("hetzner-token", "HCLOUD_TOKEN=<{an 64}>"),
    ("hetzner-token", "hetzner_api_token = <{an 64}>"),
    ("linode-token", "LINODE_CLI_TOKEN=<{hex 64}>"),
    ("supabase-token", "sbp_{hex 40}"),
    ("supabase-token", "sb_secret_{an 31}"),
    ("planetscale-token", "pscale_tkn_{an 43}"),
    ("databricks-token", "dapi{hex 32}"),
    ("doppler-token", "dp.pt.{an 43}"),
    ("vault-token", "hvs.{an 91}"),
    ("terraform-token", "{an 14}<.atlasv1.{an 67}>"),
    ("pulumi-token", "pul-{hex 40}"),
    ("scaleway-access-key", "SCW{AN 17}"),
    ("onepassword-token", "ops_eyJ{an 600}"),
    ("age-secret-key", "AGE-SECRET-KEY-1{bech 58}"),
    ("azure-devops-token", "AZURE_DEVOPS_EXT_PAT=<{b32 52}>"),
    ("azure-devops-token", "AZURE_DEVOPS_EXT_PAT=<{an 76}AZDO{an 4}>"),
    ("azure-devops-token", "azp_token: <{an 76}AZDO{an 4}>"),
    ("github-token", "ghp_{an 36}"),
    ("github-token", "gho_{an 36}"),
    ("github-token", "ghs_{an 36}"),
    ("github-fine-grained-token", "github_pat_{an 22}_{an 59}"),
    ("gitlab-token", "glpat-{an 20}"),
    ("gitlab-token", "glrt-{an 20}"),
    ("gitlab-token", "glpat-{an 27}.{lo 2}.{lo 9}"),
    ("gitlab-runner-registration", "GR1348941{an 20}"),
    ("bitbucket-token", "ATBB{an 32}"),
    ("atlassian-token", "ATATT3{an 186}={HEX 8}"),
    ("sourcegraph-token", "sgp_{hex 16}_{hex 40}"),
    ("circleci-token", "CCIPAT_{an 22}_{hex 40}"),
    ("buildkite-token", "bkua_{hex 40}"),
    ("dockerhub-token", "dckr_pat_{an 27}"),
    ("launchdarkly-key", "sdk-{hex 8}-{hex 4}-4{hex 3}-a{hex 3}-{hex 12}"),
    ("npm-token", "npm_{an 36}"),
    ("npmrc-token", "_authToken=<{hex 40}>"),
    ("pypi-token", "pypi-AgE{an 160}"),
    ("crates-token", "cio{an 32}"),
    ("rubygems-token", "rubygems_{hex 48}"),
    ("nuget-key", "oy2{lo 43}"),
    ("clojars-token", "CLOJARS_{lo 60}"),
    ("artifactory-key", "AKCp{an 69}"),
    ("packagist-token", "packagist_ack_{hex 68}"),
    ("slack-token", "xoxb-{d 12}-{d 12}-{an 24}"),
    ("slack-token", "xoxp-{d 11}-{d 11}-{d 12}-{hex 32}"),
    ("slack-app-token", "xapp-1-{AN 11}-{d 13}-{hex 64}"),
    ("slack-webhook", "https://hooks.slack.com/services/<T{AN 8}/B{AN 10}/{an 24}>"),
    ("discord-webhook", "https://discord.com/api/webhooks/{d 18}/<{an 68}>"),
    ("discord-token", "{id64 17}.{url 6}.{url 27}"),
    ("discord-token", "{id64 18}.G{an 5}.{url 38}"),
    ("discord-token", "{id64 19}.G{an 5}.{url 38}"),
    ("teams-webhook", "https://acme.webhook.office.com/webhookb2/<{hex 36}@{hex 36}/IncomingWebhook/{hex 32}>"),
    ("telegram-bot-token", "{d 10}<:AA{an 33}>"),
    ("twilio-key", "SK{hex 32}"),
    ("sendgrid-key", "SG.{an 22}.{an 43}"),
    ("mailgun-key", "key-{hex 32}"),
    ("mailchimp-key", "MAILCHIMP_API_KEY=<{hex 32}-us{d 2}>"),
    ("mailchimp-key", "curl --user anystring:<{hex 32}-us{d 1}>"),
    ("brevo-key", "xkeysib-{hex 64}-{an 16}"),
    ("mailersend-key", "mlsn.{hex 64}"),
    ("resend-key", "re_{an 8}_{an 24}"),
    ("stripe-key", "sk_live_{an 24}"),
    ("stripe-key", "rk_test_{an 99}"),
    ("webhook-signing-secret", "whsec_{an 32}"),
    ("square-token", "sq0atp-{an 22}"),
    ("square-token", "EAAA{an 60}"),
    ("braintree-token", "access_token$production${lo 16}${hex 32}"),
    ("shopify-token", "shpat_{hex 32}"),
    ("razorpay-key", "rzp_live_{an 14}"),
    ("plaid-token", "access-sandbox-{hex 8}-{hex 4}-{hex 4}-{hex 4}-{hex 12}"),
    ("flutterwave-key", "FLWSECK-{hex 32}-X"),
    ("mollie-key", "live_{an 24}123456"),
    ("anthropic-key", "sk-ant-api03-{an 93}AA"),
    ("openai-key", "sk-proj-{an 74}T3BlbkFJ{an 74}"),
    ("openai-key", "sk-svcacct-{url 60}a"),
    ("sk-key", "sk-{an 20}T3BlbkFJ{an 20}"),
    ("sk-key", "sk-or-v1-{hex 64}"),
    ("groq-key", "gsk_{an 52}"),
    ("xai-key", "xai-{an 80}"),
    ("huggingface-token", "hf_{an 34}"),
    ("replicate-token", "r8_{an 37}"),
    ("perplexity-key", "pplx-{an 48}"),
    ("together-key", "tgp_v1_{an 43}"),
    ("nvidia-key", "nvapi-{an 64}"),
    ("cerebras-key", "csk-{lo 48}"),
    ("elevenlabs-key", "sk_{hex 48}"),
    ("langsmith-key", "lsv2_pt_{hex 32}_{hex 10}"),
    ("pinecone-key", "pcsk_{an 6}_{an 64}"),
    ("tavily-key", "tvly-{an 32}"),
    ("mistral-key", "MISTRAL_API_KEY=<{an 32}>"),
    ("cohere-key", "CO_API_KEY=<{an 40}>"),
    ("cohere-key", "cohere_api_key: <{an 40}>"),
    ("new-relic-key", "NRAK-{AN 27}"),
    ("grafana-token", "glsa_{an 32}_{hex 8}"),
    ("grafana-token", "glc_{an 120}"),
    ("sentry-token", "sntryu_{hex 64}"),
    ("datadog-key", "DD_API_KEY=<{hex 32}>"),
    ("datadog-key", "DD_APP_KEY=<{hex 40}>"),
    ("datadog-key", "DD-APPLICATION-KEY: <{hex 40}>"),
    ("datadog-key", "datadog_app_key = <{hex 40}>"),
    ("pagerduty-key", "PAGERDUTY_TOKEN=<u+{an 17}7>"),
    ("pagerduty-key", "pd_api_key = <{hex 32}>"),
    ("pagerduty-account-key", "pagerduty_api_key: <{an 18}47>"),
    ("algolia-key", "ALGOLIA_ADMIN_KEY=<{hex 32}>"),
    ("algolia-key", "X-Algolia-API-Key: <{hex 32}>"),
    ("dynatrace-token", "dt0c01.{AN 24}.{AN 64}"),
    ("linear-key", "lin_api_{an 40}"),
    ("asana-token", "1/12{d 14}:{hex 32}"),
    ("asana-token", "2/12{d 14}/12{d 14}:{hex 32}"),
    ("asana-older-token", "ASANA_ACCESS_TOKEN=<0/{hex 32}>"),
    ("asana-older-token", "asana_pat: <2/9{d 11}/12{d 14}:{hex 32}>"),
    ("okta-token", "SSWS <00{url 39}a>"),
    ("okta-token", "OKTA_API_TOKEN=<00{url 39}a>"),
    ("notion-token", "ntn_{d 11}{an 35}"),
    ("figma-token", "figd_{an 40}"),
    ("airtable-token", "pat{an 14}.{hex 64}"),
    ("typeform-token", "tfp_{an 44}_{an 14}"),
    ("hubspot-token", "pat-na1-{hex 8}-{hex 4}-{hex 4}-{hex 4}-{hex 12}"),
    ("facebook-token", "EAA{an 160}"),
    ("dropbox-token", "sl.{an 140}"),
    ("postman-key", "PMAK-{hex 24}-{hex 34}"),
    ("tailscale-key", "tskey-auth-{an 12}CNTRL-{an 32}"),
    ("ngrok-key", "ak_2{an 26}"),
    ("easypost-key", "EZAK{an 54}"),
    ("private-key", "-----BEGIN RSA PRIVATE KEY-----\n{b64 64}\n{b64 64}\n{b64 30}==\n-----END RSA PRIVATE KEY-----"),
    ("private-key", "-----BEGIN OPENSSH PRIVATE KEY-----\\n{b64 70}\\n{b64 44}\\n-----END OPENSSH PRIVATE KEY-----"),
    ("putty-private-key", "Public-Lines: 1\n{b64 40}\nPrivate-Lines: 2\n<{b64 64}\n{b64 30}==\nPrivate-MAC: {hex 64}>"),
    ("putty-private-key", "Private-Lines: 1\\n<{b64 48}\\nPrivate-MAC: {hex 40}>"),
    ("jwt", "eyJhbGciOi{an 20}.eyJzdWIi{an 60}.{url 42}a"),
    ("jwt", "eyJ0eXAiOi{an 30}.eyJ{an 200}.{url 85}a"),
    ("google-auth-key", "AQ.Ab8R{url 48}"),
    ("mongodb-atlas-secret", "mdb_sa_sk_{url 40}"),
    ("salesforce-session", "00D{an 12}!AQ{an 90}"),
    ("salesforce-session", "00D{an 15}!AR{an 12}.{an 60}_{an 20}"),
    ("sonar-token", "squ_{hex 40}"),
    ("sonar-token", "sqp_{hex 40}"),
    ("mapbox-secret", "sk.eyJ1Ijoi{an 60}.{url 22}"),
    ("url-password", "postgres://app:<{an 16}>@db.internal:5432/main"),
    ("url-password", "https://x:<{an 24}>@git.example/a.git"),
    ("url-password", "redis://:<{an 20}>@cache:6379"),
    ("dsn-password", "Server=db;User Id=sa;Password=<{an 18}>;Encrypt=true"),
    ("dsn-password", "jdbc:postgresql://db/main?user=app&password=<{an 18}>&ssl=true"),
    ("url-password", "cloudinary://123456789012345:<{an 27}>@cloud"),
    ("libpq-password", "host=db user=app password=<{an 17}7> dbname=main"),
    ("oracle-password", "jdbc:oracle:thin:scott/<{an 18}>@//db:1521/main"),
    ("wireguard-key", "PrivateKey = <{b64 42}A=>"),
    ("kubeconfig-key", "client-key-data: <{b64 2000}==>"),
    ("authorization-basic", "Authorization: Basic <{an 30}==>"),
    ("authorization-bearer", "authorization: Bearer <{an 38}7>"),
    ("authorization-bearer", "Authorization: SSWS <00{an 39}7>"),
    ("authorization-bearer", "Authorization: Token token=<{an 19}7>"),
    ("personal-access-token", "GITHUB_PAT=<{an 60}>"),
    ("personal-access-token", "pat = <{an 60}>"),
    ("docker-auth", "\"auth\": \"<{an 40}=>\""),
    ("netrc-password", "machine api.example login joe password <{an 20}>"),
];

/// Values of no format, in lines that name them as secrets.
pub const NAMED: &[&str] =
    &["api_key = \"<{an 32}>\"", "\"client_secret\": \"<{hex 40}>\"", "MY_TOKEN=<{url 40}>", "password: <{an 24}>"];

/// Places where a token stands, by what they are of; `@` is the token. What is before and after it must stay.
pub const PLACES: &[(&str, &str)] = &[
    ("alone", "@"),
    (".env", "KEY=@\n"),
    (".env", "A=1\nKEY='@' # the key\nB=2\n"),
    ("shell", "export KEY=\"@\"\n"),
    ("shell", "curl -H 'X-Key: @' https://api.example/v1"),
    ("shell history", ": 1763630527:0;deploy --key @ --yes\n"),
    ("JSON", "{\"key\": \"@\", \"n\": 1}"),
    ("JSON", "[\"@\",\"other\"]"),
    ("JSON in JSON", "{\\\"key\\\": \\\"@\\\"}"),
    ("JSON in JSON", "a line\\n@\\nanother"),
    ("YAML", "key: @\n"),
    ("YAML", "env:\n  - name: KEY\n    value: \"@\"\n"),
    ("TOML", "key = '@'\n"),
    ("INI", "[default]\r\nkey = @\r\n"),
    ("URL", "GET /path?key=@&page=2 HTTP/1.1"),
    ("header", "x-key: @\r\naccept: */*\r\n"),
    ("XML", "<key>@</key>"),
    ("Markdown", "Use `@` for it."),
    ("CSV", "7,joe,@,true\n"),
    ("SQL", "INSERT INTO keys VALUES (3, '@');"),
    ("source", "let client = Client::new(\"@\", 30);\n"),
    ("log", "2026-11-20T10:42:07Z INFO client: using @, retrying"),
    ("log", "level=warn msg=\"rejected (@)\" status=401\n"),
    ("terminal", "\x1b[32m@\x1b[0m"),
    ("diff", " a\n-key: old\n+@\n b\n"),
    ("brackets", "(@)"),
];

/// Numbers that look random and are the same in every run (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end
    }
}

/// A token, and the part of it that must not be seen.
pub struct Token {
    pub text: String,
    pub secret: String,
}

/// One token of a format. The secret is what stands between `<` and `>`, or all of it.
pub fn token(format: &str, random: &mut Random) -> Token {
    let (mut text, mut rest) = (String::new(), format);
    let (mut from, mut to) = (0, None);
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '<' => from = text.len(),
            '>' => to = Some(text.len()),
            '{' => {
                let (what, after) = rest.split_once('}').expect("a brace is closed");
                let (alphabet, length) = what.split_once(' ').expect("an alphabet and a length");
                let length: usize = length.parse().expect("a length");
                rest = after;
                if alphabet == "id64" {
                    // A number of so many digits, in base 64.
                    let digits: String = (0..length)
                        .map(|at| {
                            char::from(b'0' + random.below(if at == 0 { 9 } else { 10 }) as u8 + u8::from(at == 0))
                        })
                        .collect();
                    text += &base64(digits.as_bytes());
                    continue;
                }
                let alphabet = alphabet_of(alphabet).as_bytes();
                text.extend((0..length).map(|_| char::from(alphabet[random.below(alphabet.len())])));
            }
            other => text.push(other),
        }
    }
    let secret = text[from..to.unwrap_or(text.len())].to_owned();
    Token { text, secret }
}

/// Base 64 without its padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    let alphabet = alphabet_of("b64").as_bytes();
    let three = |piece: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(piece.get(at).copied().unwrap_or_default()));
        [18, 12, 6, 0].map(|by| char::from(alphabet[bits >> by & 63]))
    };
    bytes.chunks(3).flat_map(|piece| three(piece).into_iter().take(piece.len() + 1)).collect()
}

fn alphabet_of(name: &str) -> &'static str {
    match name {
        "d" => "0123456789",
        "hex" => "0123456789abcdef",
        "HEX" => "0123456789ABCDEF",
        "lo" => "abcdefghijklmnopqrstuvwxyz0123456789",
        "AN" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "an" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        "url" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
        "b64" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        "b32" => "abcdefghijklmnopqrstuvwxyz234567",
        "B32" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
        "bech" => "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
        other => panic!("no alphabet {other}"),
    }
}

/// Text without a secret that looks as if it held some: hashes, ids, versions, base 64, source.
pub fn clean(lines: usize) -> String {
    let mut random = Random::new(17);
    let mut text = String::new();
    for line in 0..lines {
        let format = CLEAN[line % CLEAN.len()];
        text.push_str(&token(format, &mut random).text);
        text.push('\n');
    }
    text
}

const CLEAN: &[&str] = &[
    "commit {hex 40}",
    "checksum = \"{hex 64}\"",
    "\"integrity\": \"sha512-{b64 86}==\",",
    "h1:{b64 43}=",
    "id: {hex 8}-{hex 4}-4{hex 3}-a{hex 3}-{hex 12}",
    "image@sha256:{hex 64}",
    "md5 {hex 32}  file.tar.gz",
    "index {hex 7}..{hex 7} 100644",
    "data:image/png;base64,iVBORw0KGgo{b64 900}=",
    "{b64 76}",
    "{url 64}",
    "let token: Token = tokens.next_token(at).unwrap_or_default();",
    "password: String, secret: Secret<String>, api_key: Option<&str>,",
    "const TOKEN: &str = env!(\"API_TOKEN\");",
    "https://user@host.example/path:80/a@b",
    "postgres://app:$DB_PASSWORD@db/main",
    "Authorization: Bearer $TOKEN",
    "disk-{hex 8} task-{lo 12} risk-{d 6} desk-{lo 20}",
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "password = \"********************************\"",
    "secret = read_secret_from_the_keyring_v2",
    "{d 10} {d 13} {d 19} 192.0.2.{d 2}:443",
    "0x{hex 16} 0x{hex 64} \\u00e9\\u00e8",
    "tests::a_token_in_a_header_is_scrubbed ... ok",
    "src/{lo 12}/{lo 8}.rs:{d 3}:{d 2}: warning: unused variable: `token`",
    "PATH=/opt/{lo 12}/{hex 32}",
    "pattern: {hex 40} patch={hex 40} compat = {hex 32} spat={hex 32}",
    "VERCEL_GIT_COMMIT_SHA={hex 40} DD_GIT_COMMIT_SHA={hex 40} dd_trace_id={hex 32}",
    "linode_image: {hex 64} hetzner-snapshot: {hex 64} algolia_index={hex 32} mistral: {hex 32}",
    "azure-devops: {hex 40} vsts={hex 8}-{hex 4}-4{hex 3}-a{hex 3}-{hex 12} azp_token={hex 8}",
    "datadog_api_key_id: {hex 8}-{hex 4}-4{hex 3}-a{hex 3}-{hex 12} okta_token_id = 00u{an 17}",
    "{hex 32}-us-east-1 mailchimp: {hex 32} page 1/12{d 14} of 2/12{d 2}: SSWS {an 12}",
    "Public-Lines: 6 {b64 64} Private-Lines: 14 {b64 64}",
    "vcp_{lo 8} cfk_{lo 12} {an 76}AZDX{an 4}",
    "pat = \"x86_64-unknown-linux-gnu\"",
    "pat = \"tests/data/v1.2.3/file.txt\"",
    "pat: refs/tags/v1.2.3-rc1",
    "coherence_cache_key={hex 40}",
    "pagerduty_secret_key: pagerduty-prod-key-1",
];
