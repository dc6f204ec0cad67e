/* The yardstick of the benchmark: how fast one C client reads and acknowledges a stream, with nothing else to do.
 *
 * raw PORT EVENTS GROUPS DEPTH
 *
 * Loads EVENTS entries shaped as headgate publishes them (200 bytes of data, an id, a time) into a stream of its own
 * with GROUPS consumer groups, then reads it through each group in turn: XREADGROUP COUNT 100, and XACK of what a reply
 * held, sent in one write together with the read that keeps DEPTH reads under way. Prints one line:
 *
 *     DELIVERIES SECONDS        only the reading and acknowledging is timed, connection and loading are not
 *
 * Exits with 1 and a reason when a reply is an error, or when not every delivery was acknowledged exactly once.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 100, LOAD_DEPTH = 64, DATA_BYTES = 200 };
static const char *KEY = "bench:raw";

static void fail(const char *what, const char *why) {
    fprintf(stderr, "raw: %s: %s\n", what, why);
    exit(1);
}

static redisReply *reply_of(redisContext *server) {
    void *reply = NULL;
    if (redisGetReply(server, &reply) != REDIS_OK) fail("connection", server->errstr);
    if (((redisReply *)reply)->type == REDIS_REPLY_ERROR) fail("reply", ((redisReply *)reply)->str);
    return reply;
}

static void command(redisContext *server, const char *text) {
    redisAppendCommand(server, text);
    freeReplyObject(reply_of(server));
}

static void load(redisContext *server, long events) {
    char data[DATA_BYTES + 1];
    memset(data, 'x', DATA_BYTES);
    data[0] = data[DATA_BYTES - 1] = '"';
    data[DATA_BYTES] = 0;
    for (long sent = 0; sent < events;) {
        long burst = events - sent < LOAD_DEPTH ? events - sent : LOAD_DEPTH;
        for (long i = 0; i < burst; i++)
            redisAppendCommand(server, "XADD %s * data %b id %032lx time 1700000000000", KEY, data, (size_t)DATA_BYTES,
                               sent + i);
        for (long i = 0; i < burst; i++) freeReplyObject(reply_of(server));
        sent += burst;
    }
}

static void ask(redisContext *server, long group) {
    redisAppendCommand(server, "XREADGROUP GROUP g%ld raw COUNT %d STREAMS %s >", group, BATCH, KEY);
}

/* Appends one XACK of every entry of a stream's reply; returns how many there are. */
static long acknowledge(redisContext *server, long group, redisReply *read) {
    if (read->type != REDIS_REPLY_ARRAY || read->elements == 0) return 0;
    redisReply *entries = read->element[0]->element[1];
    const char *words[3 + BATCH];
    size_t lengths[3 + BATCH];
    char name[32];
    words[0] = "XACK", lengths[0] = 4;
    words[1] = KEY, lengths[1] = strlen(KEY);
    words[2] = name, lengths[2] = (size_t)snprintf(name, sizeof name, "g%ld", group);
    for (size_t i = 0; i < entries->elements; i++) {
        words[3 + i] = entries->element[i]->element[0]->str;
        lengths[3 + i] = entries->element[i]->element[0]->len;
    }
    redisAppendCommandArgv(server, 3 + (int)entries->elements, words, lengths);
    return (long)entries->elements;
}

/* Reads one group to its end; returns how many entries were acknowledged.
 *
 * Replies come in the order of the commands: DEPTH reads first, then for every reply that held entries an XACK and a
 * read, in that order. `acks` queues what each reply to come is: the size of an XACK, or -1 for a read. */
static long drain(redisContext *server, long group, long depth) {
    long acknowledged = 0, head = 0, tail = 0;
    enum { QUEUE = 4096 };
    static long acks[QUEUE];
    for (long i = 0; i < depth; i++, tail++) ask(server, group), acks[tail % QUEUE] = -1;
    for (; head < tail; head++) {
        redisReply *reply = reply_of(server);
        long size = acks[head % QUEUE];
        if (size >= 0) {
            if (reply->integer != size) fail("XACK", "an entry was not pending");
            acknowledged += size;
        } else {
            long held = acknowledge(server, group, reply);
            if (held > 0) {
                acks[tail++ % QUEUE] = held;
                ask(server, group), acks[tail++ % QUEUE] = -1;
            }
        }
        freeReplyObject(reply);
    }
    return acknowledged;
}

int main(int count, char **arguments) {
    if (count != 5) fail("usage", "raw PORT EVENTS GROUPS DEPTH");
    long events = atol(arguments[2]), groups = atol(arguments[3]), depth = atol(arguments[4]);
    redisContext *server = redisConnect("127.0.0.1", atoi(arguments[1]));
    if (server == NULL || server->err) fail("connect", server ? server->errstr : "out of memory");
    char text[128];
    command(server, "DEL bench:raw");
    for (long group = 0; group < groups; group++) {
        snprintf(text, sizeof text, "XGROUP CREATE %s g%ld $ MKSTREAM", KEY, group);
        command(server, text);
    }
    load(server, events);

    struct timespec start, end;
    long acknowledged = 0;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long group = 0; group < groups; group++) acknowledged += drain(server, group, depth);
    clock_gettime(CLOCK_MONOTONIC, &end);

    command(server, "DEL bench:raw");
    redisFree(server);
    if (acknowledged != events * groups) fail("deliveries", "not every one was acknowledged");
    printf("%ld %.6f\n", acknowledged, (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
    return 0;
}
