//! Which connections are kept for the next request.
//!
//! After an answer that was given before the request's body was read to its end, actix reads the
//! rest of a chunked body, however long, unless somebody still holds the payload: then it closes.
//! So the answer holds it.
//!
//! actix measures the time for a request's head only once for each connection. So a connection is
//! kept only for callers whose key is known: whoever has none gets no second head to dribble.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use bytes::Bytes;
use futures::Stream;

use super::auth::Authenticated;

/// A request's body as it comes in.
struct Incoming {
    payload: Payload,
    broken: bool,
}

/// What a handler reads the body through.
struct Reader(Rc<RefCell<Incoming>>);

/// An answer's body that holds the request's.
pub(super) struct Holding {
    body: BoxBody,
    _incoming: Option<Rc<RefCell<Incoming>>>,
}

/// Lets a request through and decides what becomes of its connection.
pub(super) async fn decide(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<Holding>, Error> {
    let incoming = match request.take_payload() {
        Payload::None => None,
        payload => {
            let incoming = Rc::new(RefCell::new(Incoming { payload, broken: false }));
            let reader = Box::pin(Reader(Rc::clone(&incoming)));
            request.set_payload(Payload::Stream { payload: reader });
            Some(incoming)
        }
    };
    let mut response = next.call(request).await?;
    let known = response.request().extensions().contains::<Authenticated>();
    let broken = incoming.as_ref().is_some_and(|incoming| incoming.borrow().broken);
    if broken || !known {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| Holding { body, _incoming: incoming }))
}

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut incoming = self.0.borrow_mut();
        let polled = Pin::new(&mut incoming.payload).poll_next(context);
        incoming.broken |= matches!(polled, Poll::Ready(Some(Err(_))));
        polled
    }
}

impl MessageBody for Holding {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}
