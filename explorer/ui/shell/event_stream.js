// Gradio's client reads what its events yield from one stream, which the server ends when none is under way. An event that
// begins in that moment was lost: the client read the call's answer before the stream's end, took the stream for open, and
// nobody read what the event yielded. The server says with the answer which stream it had ended by then (event_streams.py);
// here the answer waits until the client knows that too.

const plain = window.fetch;
const END = '"msg":"close_stream"';
const streams = new Map(); // by number: `over`, a promise that the client knows of its end, and `end`, which keeps it

window.fetch = async (asked, options) => {
  const request = new Request(asked, options);
  const { pathname } = new URL(request.url);
  if (pathname.endsWith('/gradio_api/queue/data')) return listen(request);
  const response = await plain(request);
  const ended = Number(response.headers.get('x-ended-event-stream'));
  if (ended) await stream(ended).over;
  return response;
};

function stream(number) {
  if (!streams.has(number)) {
    let end;
    streams.set(number, { over: new Promise((resolve) => { end = resolve; }), end });
  }
  return streams.get(number);
}

// The same stream. The client gives up its own signal once it has read the end. One that breaks off is over as well.
async function listen(request) {
  try {
    const response = await plain(request);
    const { end } = stream(Number(response.headers.get('x-event-stream')));
    request.signal.addEventListener('abort', end, { once: true });
    if (!response.ok) end();
    return new Response(watched(response.body, end), { status: response.status, headers: response.headers });
  } catch (error) {
    streams.forEach(({ end }) => end());
    throw error;
  }
}

function watched(body, end) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let tail = '';
  let ended = false;
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await reader.read();
        if (done) {
          if (!ended) end();
          controller.close();
          return;
        }
        tail = tail.slice(-END.length) + decoder.decode(value, { stream: true });
        ended ||= tail.includes(END);
        controller.enqueue(value);
      } catch (error) {
        end();
        controller.error(error);
      }
    },
    cancel(reason) {
      end();
      return reader.cancel(reason);
    },
  });
}
