// Gradio's client reads what its events yield from one stream, which the server ends when none is under way. An event that
// begins in that moment was lost: its call was answered before the client had read the end, so that it took the stream
// for open, and nobody read what the event yielded. Here an answer to such a call waits until the client knows.

const plain = window.fetch;
const END = '"msg":"close_stream"';
let ending = Promise.resolve(); // until the client has read the end of a stream that has ended

window.fetch = async (asked, options) => {
  const request = new Request(asked, options);
  const { pathname } = new URL(request.url);
  const response = await plain(request);
  if (pathname.endsWith('/gradio_api/queue/join')) await ending;
  return response.ok && pathname.endsWith('/gradio_api/queue/data') ? watched(response, request.signal) : response;
};

// The same stream. The client gives up its own signal once it has read the end.
function watched(response, signal) {
  const decoder = new TextDecoder();
  let tail = '';
  const body = response.body.pipeThrough(new TransformStream({
    transform(chunk, controller) {
      const read = tail + decoder.decode(chunk, { stream: true });
      if (read.includes(END)) ending = new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      tail = read.includes(END) ? '' : read.slice(-END.length);
      controller.enqueue(chunk);
    },
  }));
  return new Response(body, { status: response.status, headers: response.headers });
}
