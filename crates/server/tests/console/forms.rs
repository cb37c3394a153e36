//! What is done from a page: each form, what it says of a value that cannot be taken, and who may send it.

use crate::sign_in;
use crate::stage::{Answer, KEY, Stage, exec};
use http::{Method, StatusCode};
use model::RunState;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn post(stage: &Stage, cookie: &str, path: &str, body: &str) -> Answer {
    stage.tcp(Method::POST, path, &[("cookie", cookie), FORM], body).await
}

async fn get(stage: &Stage, cookie: &str, path: &str) -> String {
    stage.tcp(Method::GET, path, &[("cookie", cookie)], "").await.text()
}

#[tokio::test]
async fn a_run_is_started_by_its_form_with_the_task_as_it_was_typed() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(stage.dir.path().join("profiles/slow.toml"), "[limits]\nseconds = 9\n").unwrap();
    let cookie = sign_in(&stage).await;
    let page = get(&stage, &cookie, "/runs/new").await;
    for part in ["value=\"m\"", "value=\"default\"", "value=\"slow\"", "for=\"task\"", "for=\"repo\""] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let done = post(&stage, &cookie, "/runs/new", "task=one%0D%0Atwo&repo=&model=m&profile=slow").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text());
    let run = done.headers["location"].to_str().unwrap().strip_prefix("/runs/").unwrap().parse().unwrap();
    let view = stage.get(&run).await;
    assert_eq!((view.task.as_str(), view.profile.as_str(), view.repo), ("one\ntwo", "slow", None));
}

#[tokio::test]
async fn what_a_run_cannot_be_is_said_at_its_field_and_what_was_typed_stays() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let cookie = sign_in(&stage).await;
    for (body, at, says) in [
        ("task=+&repo=&model=&profile=", "task-wrong", "A task takes"),
        (&format!("task=keep+%3Cme%3E+{KEY}"), "task-wrong", "holds the value of the secret model/m"),
        ("task=keep+%3Cme%3E&repo=a%2Fb&model=m&profile=default", "repo-wrong", "neither an absolute path"),
        (
            "task=keep+%3Cme%3E&repo=https%3A%2F%2Fx%2Fy&model=&profile=",
            "repo-wrong",
            "names no repository at https://x/y",
        ),
        ("task=keep+%3Cme%3E&model=gone", "model-wrong", "There is no model"),
        ("task=keep+%3Cme%3E&profile=..%2Fx", "profile-wrong", "is no profile"),
        ("task=keep+%3Cme%3E&profile=gone", "profile-wrong", "There is no profile"),
    ] {
        let answer = post(&stage, &cookie, "/runs/new", body).await;
        assert!(answer.status.is_client_error(), "{body}");
        let text = answer.text();
        assert!(text.contains(&format!("id=\"{at}\"")) && text.contains(says), "{body}: {text}");
        assert!(text.contains("role=\"alert\"") && text.matches("aria-invalid").count() == 1, "{body}: {text}");
        // The keyboard begins where something is to be mended.
        let field = text.split("aria-invalid").next().unwrap().rsplit('<').next().unwrap();
        assert!(text.matches(" autofocus").count() == 1 && field.contains(" autofocus"), "{body}: {text}");
        assert!(!body.contains("keep") || text.contains("keep &lt;me&gt;"), "{body}: {text}");
        assert!(!text.contains(KEY), "{text}");
    }
    let none = stage.home(Method::GET, "/api/runs", None).await;
    assert_eq!(none.text(), "[]");
}

#[tokio::test]
async fn without_a_model_the_form_says_how_to_get_one() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    assert!(get(&stage, &cookie, "/runs/new").await.contains("volary model add"));
    let answer = post(&stage, &cookie, "/runs/new", "task=x").await.text();
    assert!(answer.contains("id=\"model-wrong\"") && answer.contains("volary model add"), "{answer}");
}

#[tokio::test]
async fn a_secret_is_deleted_after_a_question_that_names_who_uses_it() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let cookie = sign_in(&stage).await;
    assert!(get(&stage, &cookie, "/secrets").await.contains("/secrets/delete?name=model/m"));
    let question = get(&stage, &cookie, "/secrets/delete?name=model/m").await;
    assert!(question.contains("Delete this secret?") && question.contains("<strong>m</strong>"), "{question}");
    assert!(
        get(&stage, &cookie, "/secrets").await.contains("delete?name=model/m"),
        "the question alone deletes nothing"
    );
    // Twice: the second finds it as wished.
    for _ in 0..2 {
        let done = post(&stage, &cookie, "/secrets/delete", "name=model%2Fm").await;
        assert_eq!(done.status, StatusCode::SEE_OTHER);
        assert_eq!(done.headers["location"], "/secrets?deleted=model/m");
    }
    assert!(get(&stage, &cookie, "/secrets?deleted=model/m").await.contains("No secret is set"));
    let gone = stage.tcp(Method::GET, "/secrets/delete?name=model/m", &[("cookie", &cookie)], "").await;
    assert_eq!(gone.status, StatusCode::SEE_OTHER, "there is nothing to ask about");
}

#[tokio::test]
async fn the_form_says_whether_people_may_have_their_own_knows_a_registrys_name_and_takes_no_file_in_one_line() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let set = async |form: &str| post(&stage, &cookie, "/secrets", form).await;
    let registry = format!("registry/{}", "r.corp".repeat(21));
    let done = set(&format!("name={registry}&value=robot%3Apassword-0123")).await;
    assert_eq!(done.headers["location"], format!("/secrets?set={registry}").as_str());
    assert_eq!(set("name=capability%2Fshop&value=value-of-the-shop&personal=yes").await.status, StatusCode::SEE_OTHER);
    let page = get(&stage, &cookie, "/secrets").await;
    assert!(page.contains("a registry's sign-in") && page.contains("people may have their own in its place"), "{page}");
    assert!(page.contains("maxlength=\"137\"") && registry.len() <= 137, "the longest name fits");
    assert_eq!(set("name=capability%2Fshop&value=value-of-the-shop&personal=no").await.status, StatusCode::SEE_OTHER);
    assert!(!get(&stage, &cookie, "/secrets").await.contains("people may have their own in its place"));
    // A browser took the ends of its lines away: what is left is no key file.
    let file = "-----BEGIN+OPENSSH+PRIVATE+KEY-----b3BlbnNzaC1rZXktdjEA-----END";
    let wrong = set(&format!("name=capability%2Fshop&value={file}")).await;
    assert!(wrong.status == StatusCode::BAD_REQUEST && wrong.text().contains("id=\"value-wrong\""), "{}", wrong.text());
    let wrong = post(&stage, &cookie, "/secrets/rotate", &format!("name=capability%2Fshop&value={file}")).await;
    assert!(wrong.text().contains("id=\"value-wrong\"") && !wrong.text().contains("b3Blbn"), "{}", wrong.text());
}

#[tokio::test]
async fn a_managed_key_is_set_from_the_form_and_replaced_and_ones_own_stands_beside_it() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let set = async |kind: &str, whose: &str, value: &str| {
        let form = format!("name=capability%2Fforge&kind={kind}&whose={whose}&value={value}");
        post(&stage, &cookie, "/secrets", &form).await
    };
    let wrong = set("nobody", "workspace", "value-of-forge").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text().contains("id=\"kind-wrong\"") && !wrong.text().contains("value-of-forge"), "{}", wrong.text());
    assert_eq!(set("github", "workspace", "value-of-forge").await.headers["location"], "/secrets?set=capability/forge");
    let page = get(&stage, &cookie, "/secrets").await;
    assert!(page.contains("managed") && page.contains("api.github.com") && page.contains("never"), "{page}");
    assert_eq!(set("", "mine", "value-of-my-own").await.status, StatusCode::SEE_OTHER);
    let page = get(&stage, &cookie, "/secrets").await;
    assert!(
        page.contains("your own") && page.contains("/secrets/rotate?name=capability/forge&amp;mine=true"),
        "{page}"
    );

    let form = get(&stage, &cookie, "/secrets/rotate?name=capability/forge").await;
    assert!(form.contains("Replace this secret") && !form.contains("value-of"), "{form}");
    let short = post(&stage, &cookie, "/secrets/rotate", "name=capability%2Fforge&value=short").await;
    assert!(short.text().contains("id=\"value-wrong\""), "{}", short.text());
    let done = post(&stage, &cookie, "/secrets/rotate", "name=capability%2Fforge&value=another-value").await;
    assert_eq!(done.headers["location"], "/secrets?rotated=capability/forge");
    let gone = post(&stage, &cookie, "/secrets/rotate", "name=capability%2Fother&value=another-value").await;
    assert_eq!(gone.headers["location"], "/secrets");

    let form = "name=capability%2Fforge&mine=true";
    assert_eq!(post(&stage, &cookie, "/secrets/delete", form).await.status, StatusCode::SEE_OTHER);
    let page = get(&stage, &cookie, "/secrets").await;
    assert!(!page.contains("your own") && page.contains("api.github.com"), "{page}");
    for held in ["value-of-forge", "value-of-my-own", "another-value"] {
        assert!(!page.contains(held), "{held}");
    }
}

#[tokio::test]
async fn a_models_test_says_on_its_page_what_came_of_it() {
    use api::grants::{FromGateway, ToGateway};
    let stage = Stage::start();
    stage.model("m", "id").await;
    let cookie = sign_in(&stage).await;
    let away = post(&stage, &cookie, "/models/m/test", "").await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(away.text().contains("The gateway is not connected") && away.text().contains("role=\"alert\""));
    for (status, said, shown) in [(200, "hello", "hello"), (401, "wrong <key>", "wrong &lt;key&gt;")] {
        let mut gateway = stage.gateway().await;
        let asked = post(&stage, &cookie, "/models/m/test", "");
        let answering = async {
            match gateway.hear().await {
                ToGateway::Probe { id, .. } => {
                    gateway.say(&FromGateway::Probed { id, status, said: said.into() }).await
                }
                other => panic!("no probe: {other:?}"),
            }
        };
        let (answer, ()) = tokio::join!(asked, answering);
        assert!(answer.text().contains(shown) && !answer.text().contains(KEY), "{}", answer.text());
    }
}

#[tokio::test]
async fn no_form_is_sent_from_another_site_or_by_who_is_not_signed_in() {
    let stage = Stage::start();
    stage.model("m", "id").await;
    let run = stage.create(&exec(&["sleep", "9"])).await.run;
    let cookie = sign_in(&stage).await;
    let ours = format!("http://127.0.0.1:{}", stage.port);
    // Another port is the same site to a browser, and sends the cookie along.
    let neighbour = format!("http://127.0.0.1:{}", stage.port.wrapping_add(1).max(1024));
    let body = "task=x&name=model%2Fm&value=0123456789";
    let routes = server::routes::all().list();
    let forms: Vec<_> = routes.iter().filter(|r| r.method == Method::POST && !r.path.starts_with("/api/")).collect();
    assert!(forms.len() >= 7, "{forms:?}");
    for route in forms {
        let path = route
            .path
            .replace("{run}", run.as_str())
            .replace("{name}", "m")
            .replace("{token}", "t")
            .replace("{n}", "1");
        for origin in ["https://evil.example", "null", neighbour.as_str()] {
            let headers = [("cookie", cookie.as_str()), FORM, ("origin", origin)];
            let answer = stage.tcp(Method::POST, &path, &headers, body).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} from {origin}");
        }
        let headers = [("cookie", cookie.as_str()), FORM, ("sec-fetch-site", "same-site")];
        assert_eq!(stage.tcp(Method::POST, &path, &headers, body).await.status, StatusCode::FORBIDDEN, "{path}");
        if !route.path.starts_with("/sign-in/") {
            let nobody = stage.tcp(Method::POST, &path, &[FORM, ("origin", &ours)], body).await;
            assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    assert_eq!(stage.get(&run).await.state, RunState::Queued);
    assert!(get(&stage, &cookie, "/secrets").await.contains("delete?name=model/m"));
}

#[tokio::test]
async fn a_browser_that_takes_a_wrong_turn_is_shown_a_page_with_the_way_back_and_a_program_is_not() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    for (method, path, status) in [
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::GET, "/runs/NO-RUN", StatusCode::NOT_FOUND),
        (Method::GET, "/runs/aaaaaaaaaaaa", StatusCode::NOT_FOUND),
        (Method::POST, "/evidence", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let page = stage.tcp(method.clone(), path, &[("cookie", &cookie), browser], "").await;
        assert_eq!(page.status, status, "{path}");
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
        assert!(page.text().contains("<h1>") && page.text().contains("href=\"/\""), "{path}: {}", page.text());
        assert!(page.headers.contains_key("content-security-policy"), "{path}");
    }
    let program = stage.tcp(Method::GET, "/nowhere", &[("cookie", &cookie)], "").await;
    assert_eq!((program.status, program.code().as_str()), (StatusCode::NOT_FOUND, "path.unknown"));
    let api = stage.tcp(Method::GET, "/api/nowhere", &[("cookie", &cookie), browser], "").await;
    assert_eq!((api.status, api.code().as_str()), (StatusCode::NOT_FOUND, "path.unknown"));
    // A name that was pointed at us is told so in words too.
    let rebound = stage.tcp(Method::GET, "/", &[("host", "evil.example"), browser], "").await;
    assert_eq!(rebound.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(rebound.text().contains("<h1>"), "{}", rebound.text());
}

#[tokio::test]
async fn who_is_signed_in_is_called_by_the_account_s_name_and_as_the_record_calls_them() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    assert!(get(&stage, &cookie, "/").await.contains("<span class=\"who\">ada (administrator)</span>"));
}

#[tokio::test]
async fn a_key_that_others_are_minted_from_is_set_from_the_form_with_its_vendors_settings_and_wrong_ones_are_marked() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    let set = async |kind: &str, minter: &str| {
        let form =
            format!("name=capability%2Fcluster&kind={kind}&minter={minter}&whose=workspace&value=canary-bearer-01");
        post(&stage, &cookie, "/secrets", &form).await
    };
    let settings = "base+%3D+%22https%3A%2F%2Fk.example%22%0D%0Anamespace+%3D+%22ci%22%0D%0Aaccount+%3D+%22deployer%22";
    for (kind, minter) in [
        ("kubernetes-account", ""),
        ("kubernetes-account", "no+settings"),
        ("kubernetes-account", "base+%3D+%22https%3A%2F%2Fk.example%22"),
        ("custom", settings),
        ("aws-role", settings),
    ] {
        let wrong = set(kind, minter).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{kind} {minter}");
        let page = wrong.text();
        assert!(page.contains("id=\"minter-wrong\"") && !page.contains("canary"), "{page}");
    }
    assert_eq!(set("kubernetes-account", settings).await.headers["location"], "/secrets?set=capability/cluster");
    let page = get(&stage, &cookie, "/secrets").await;
    assert!(page.contains("minted from") && page.contains("ends by itself") && !page.contains("canary"), "{page}");
}
