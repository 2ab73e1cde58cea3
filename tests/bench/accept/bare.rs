//! The bare handler: actix parses the body and does one `XADD`. What a server in Rust on Redis can
//! do at best, since it checks nothing and promises nothing.

use actix_web::{App, HttpResponse, HttpServer, error, web};
use anyhow::Result;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use serde_json::{Value, json};

/// What it reads of a job.
#[derive(Deserialize)]
struct Job {
    task: String,
    input: Value,
}

/// Serves until it is killed.
pub(crate) fn serve(port: u16, redis: u16) -> Result<()> {
    let client = crate::common::redis::client(redis)?;
    actix_web::rt::System::new().block_on(async move {
        HttpServer::new(move || {
            let client = client.clone();
            // Each worker has a connection of its own: faster than one for all.
            App::new()
                .data_factory(move || {
                    let client = client.clone();
                    async move { client.get_multiplexed_async_connection().await }
                })
                .route("/v1/jobs", web::post().to(accept))
                .route("/health/ready", web::get().to(HttpResponse::Ok))
        })
        .bind(("127.0.0.1", port))?
        .run()
        .await
    })?;
    Ok(())
}

async fn accept(
    body: web::Bytes,
    redis: web::Data<MultiplexedConnection>,
) -> actix_web::Result<HttpResponse> {
    let job: Job = serde_json::from_slice(&body)?;
    if job.task.is_empty() || job.input.is_null() {
        return Err(error::ErrorUnprocessableEntity("`task` and `input` are needed"));
    }
    let mut command = redis::cmd("XADD");
    command.arg("jobs").arg("*").arg("job").arg(body.as_ref());
    let mut redis = MultiplexedConnection::clone(&redis);
    let id: String =
        command.query_async(&mut redis).await.map_err(error::ErrorServiceUnavailable)?;
    Ok(HttpResponse::Accepted().json(json!({ "id": id, "status": "queued" })))
}
