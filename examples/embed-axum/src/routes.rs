//! The shop's router. The chat adds the routes `/chat/ws` and `/ready`, a line in `place`, and a
//! line in `log_out`.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use im_core::Code;
use im_transport_ws::{WebSocket, WsConfig};
use serde::Deserialize;

use crate::Shop;
use crate::accounts::{LoggedIn, cookies, set_cookie};
use crate::orders::{NewOrder, Order};

const LOGIN: &str = include_str!("../page/login.html");
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Builds the router, including the engine's routes.
pub fn router(shop: Shop) -> Router {
    let chat = WebSocket::new(shop.chat.engine.clone(), WsConfig::default());
    Router::new()
        .route("/", get(home))
        .route("/login", get(|| file(HTML, LOGIN)).post(log_in))
        .route("/logout", post(log_out))
        .route("/orders", get(list).post(place))
        .route("/ready", get(ready))
        .route(
            "/shop.css",
            get(|| file("text/css; charset=utf-8", include_str!("../page/shop.css"))),
        )
        .route("/shop.js", get(|| file(SCRIPT, include_str!("../page/shop.js"))))
        // The client of the quickstart's page: connection and room logic without rendering.
        .route(
            "/connection.js",
            get(|| file(SCRIPT, include_str!("../../quickstart/page/connection.js"))),
        )
        .route("/room.js", get(|| file(SCRIPT, include_str!("../../quickstart/page/room.js"))))
        .route_service("/chat/ws", chat)
        .with_state(shop)
}

/// Readiness for a load balancer: 503 while the chat cannot serve.
async fn ready(State(shop): State<Shop>) -> (StatusCode, String) {
    let health = shop.chat.engine.health(Duration::from_secs(2)).await;
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, health.to_string())
}

async fn file(kind: &'static str, text: impl IntoResponse) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-cache")], text)
}

async fn home(user: Result<LoggedIn, (StatusCode, &'static str)>) -> Response {
    match user {
        Ok(_) => file(HTML, include_str!("../page/index.html")).await.into_response(),
        Err(_) => Redirect::to("/login").into_response(),
    }
}

#[derive(Deserialize)]
struct LogIn {
    name: String,
    password: String,
}

async fn log_in(State(shop): State<Shop>, Form(form): Form<LogIn>) -> Response {
    match shop.accounts.log_in(&form.name, &form.password) {
        Some(token) => (set_cookie(&token), Redirect::to("/")).into_response(),
        None => {
            let page = LOGIN.replace(" hidden>", ">"); // the same page, with the error
            (StatusCode::UNAUTHORIZED, file(HTML, page).await).into_response()
        }
    }
}

async fn log_out(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    if let Some(user) = shop.accounts.log_out(&cookies(&headers)) {
        // Logging out of the shop also ends the chat, on all devices.
        if let Err(error) = shop.chat.engine.kick(&user, None, Code::LoggedOut).await {
            tracing::warn!(%error, "could not end the chat sessions");
        }
    }
    (set_cookie(""), Redirect::to("/login")).into_response()
}

async fn list(_: LoggedIn, State(shop): State<Shop>) -> Json<Vec<Order>> {
    Json(shop.orders.all())
}

async fn place(
    LoggedIn(user): LoggedIn,
    State(shop): State<Shop>,
    Json(new): Json<NewOrder>,
) -> Response {
    let order = match shop.orders.place(new, user) {
        Ok(order) => order,
        Err(words) => return (StatusCode::UNPROCESSABLE_ENTITY, words).into_response(),
    };
    if let Err(error) = shop.chat.announce(&order).await {
        // The order is placed nevertheless. A shop with a database would retry from a job, with the
        // same id.
        tracing::warn!(%error, order = order.number, "could not publish the order to the team");
    }
    (StatusCode::CREATED, Json(order)).into_response()
}
