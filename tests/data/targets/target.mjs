// A service that events are pushed to, in another language than ours and without any library.
// It verifies, it is idempotent by webhook-id, and it answers: its address on the first line of standard output, then a
// line an event it took. SIGNING_KEY is the whsec_ key.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.SIGNING_KEY.replace(/^whsec_/, ""), "base64");
const done = new Map();

function isGenuine(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > 300) return false;
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return (signatures ?? "").split(" ").some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

function answer(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

const server = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  if (!isGenuine(request.headers, body)) return answer(response, 401, "not signed by a key of ours");
  const id = request.headers["webhook-id"];
  if (!done.has(id)) {
    const data = JSON.parse(body);
    done.set(id, { shouted: data.text.toUpperCase(), by: "node" });
    console.log(JSON.stringify({ id: decodeURIComponent(request.headers["ce-id"]), data }));
    // The answer to the first attempt is lost: the second is told the same, and nothing is done twice.
    if (data.lost) return request.socket.destroy();
  }
  answer(response, 200, done.get(id));
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));
