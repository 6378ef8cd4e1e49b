//! Limits on what a reader of the pages may take.
//!
//! At most [`MAX_CONNECTIONS`] at once; a connection lives for [`LIFETIME`] at most, and a reader that neither sends nor takes
//! anything for [`PATIENCE`] is cut off. Prometheus and browsers open another connection without a word. Readers beyond the
//! limit wait in the kernel's queue: none of them is known to the processor's threads.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// Connections at once.
pub const MAX_CONNECTIONS: usize = 64;
/// The longest life of a connection.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// The longest silence of a reader.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A listener whose connections are limited.
pub struct LimitedListener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl LimitedListener {
    /// Limits the connections of `listener`.
    pub fn new(listener: TcpListener) -> Self {
        LimitedListener { listener, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        // axum's own accept waits and tries again where the process is out of file descriptors.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (LimitedStream::new(stream, permit), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with an end.
pub struct LimitedStream {
    stream: TcpStream,
    end: Instant,
    alarm: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl LimitedStream {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> Self {
        let now = Instant::now();
        LimitedStream { stream, end: now + LIFETIME, alarm: Box::pin(sleep_until(now + PATIENCE)), _permit: permit }
    }

    /// Passes on what the socket said. Where it said to wait, the alarm may say that this was long enough; where bytes moved,
    /// the alarm is set anew, though never past the connection's end.
    fn limited<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let now = Instant::now();
        match polled {
            Poll::Ready(result) if now < self.end => {
                let next = (now + PATIENCE).min(self.end);
                self.alarm.as_mut().reset(next);
                Poll::Ready(result)
            }
            Poll::Ready(_) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => match self.alarm.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.limited(context, polled)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limited(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.limited(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
