//! Sessions stay with the account that has their prompt cached: over the real binary, with two
//! replicas that share what they remember.

use serde_json::{Value, json};

use crate::support::redis::RedisServer;
use crate::support::scripted::ScriptedServer;
use crate::support::spillway::{Spillway, settings};

/// Two accounts of different orgs behind one model.
fn two_accounts(redis: &RedisServer, servers: &[ScriptedServer]) -> String {
    let account = |(name, server): (&str, &ScriptedServer)| {
        format!(
            "[accounts.{name}]\nprovider = \"openai-compatible\"\nbase_url = \"{}/v1\"\norg = \"{name}\"\n",
            server.url()
        )
    };
    let accounts: String = ["first", "second"].into_iter().zip(servers).map(account).collect();
    let routes = "[routes.cheap]\nsteps = [\"first/tiny-1\", \"second/tiny-1\"]\n\
                  [routes.premium]\nsteps = [\"first/tiny-1\", \"second/tiny-1\"]\n";
    settings(&format!("url = \"{}\"", redis.url()), &format!("{accounts}{routes}"))
}

/// Who was asked for a job of this session, in order.
async fn asked(spillway: &Spillway, session: &str) -> Vec<(String, String)> {
    let job = json!({ "task": "summarize", "input": { "text": "Hello" }, "session": session });
    let result = spillway.run(&job).await;
    assert_eq!(result["status"], "succeeded", "{result:#}");
    let attempts = result["attempts"].as_array().unwrap();
    let word = |attempt: &Value, name: &str| attempt[name].as_str().unwrap().to_owned();
    attempts.iter().map(|one| (word(one, "account"), word(one, "outcome"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_until_its_account_cannot_serve_and_only_a_success_binds_it() {
    let redis = RedisServer::start(&[]);
    let answers = json!({ "latency": "5ms" });
    let mut servers: Vec<ScriptedServer> =
        (0..2).map(|_| ScriptedServer::start(&answers)).collect();
    let settings = two_accounts(&redis, &servers);
    let replicas = [Spillway::start(&settings), Spillway::start(&settings)];

    // Sessions are spread, and each stays, whichever replica it comes to.
    let mut homes = Vec::new();
    for number in 0..6 {
        let session = format!("session-{number}");
        let home = asked(&replicas[number % 2], &session).await;
        assert_eq!(home.len(), 1, "{home:?}");
        for next in 0..3 {
            assert_eq!(asked(&replicas[next % 2], &session).await, home, "{session}");
        }
        homes.push((session, home[0].0.clone()));
    }
    let at = |name: &str| homes.iter().filter(|(_, home)| home == name).count();
    assert_eq!((at("first"), at("second")), (3, 3), "where there are fewest: {homes:?}");

    // Its account is gone: another answers, and is the session's from then on.
    drop(servers.remove(0));
    let (moved, _) = homes.iter().find(|(_, home)| home == "first").unwrap();
    let way = asked(&replicas[0], moved).await;
    assert_eq!(way.last().unwrap(), &("second".to_owned(), "answered".to_owned()), "{way:?}");
    for next in 0..4 {
        let stays = asked(&replicas[next % 2], moved).await;
        assert_eq!(
            stays,
            [("second".to_owned(), "answered".to_owned())],
            "a failure binds nothing"
        );
    }
}
