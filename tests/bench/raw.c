/* The yardsticks of the benchmark: how fast one C client reads and acknowledges a stream, with nothing else to do, and
 * how soon it has an entry that another one added.
 *
 * raw consume PORT EVENTS GROUPS DEPTH
 *
 * Loads EVENTS entries shaped as headgate publishes them (200 bytes of data, an id, a time) into a stream of its own
 * with GROUPS consumer groups, then reads it through each group in turn: XREADGROUP COUNT 100, and XACK of what a reply
 * held, sent in one write together with the read that keeps DEPTH reads under way. Prints one line:
 *
 *     DELIVERIES SECONDS        only the reading and acknowledging is timed, connection and loading are not
 *
 * raw latency PORT RATE SECONDS FILE
 *
 * One thread adds entries of the same shape at RATE a second, each when it is due or, when late, with the next (open
 * loop); another waits in XREADGROUP BLOCK and acknowledges what came before it waits again. Writes into FILE, for each
 * entry, two 64-bit numbers: when it was due (ns of the machine's clock), and how many ns later it was received.
 *
 * Exits with 1 and a reason when a reply is an error, or when not every delivery was acknowledged exactly once.
 */
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdint.h>
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

static redisContext *connect_to(const char *port) {
    redisContext *server = redisConnect("127.0.0.1", atoi(port));
    if (server == NULL || server->err) fail("connect", server ? server->errstr : "out of memory");
    return server;
}

static void append_entry(redisContext *server, long long id, long long time) {
    static char data[DATA_BYTES];
    if (!data[0]) {
        memset(data, 'x', DATA_BYTES);
        data[0] = data[DATA_BYTES - 1] = '"';
    }
    redisAppendCommand(server, "XADD %s * data %b id %032llx time %lld", KEY, data, (size_t)DATA_BYTES, id, time);
}

static void load(redisContext *server, long events) {
    for (long sent = 0; sent < events;) {
        long burst = events - sent < LOAD_DEPTH ? events - sent : LOAD_DEPTH;
        for (long i = 0; i < burst; i++) append_entry(server, sent + i, 1700000000000);
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

static int consume(const char *port, long events, long groups, long depth) {
    redisContext *server = connect_to(port);
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

typedef struct {
    const char *port;
    int64_t start;
    long rate, events;
} Schedule;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t due_ns(const Schedule *plan, long number) { return plan->start + number * 1000000000LL / plan->rate; }

static void *produce(void *argument) {
    const Schedule *plan = argument;
    redisContext *server = connect_to(plan->port);
    for (long sent = 0; sent < plan->events;) {
        int64_t due = due_ns(plan, sent);
        struct timespec until = {due / 1000000000, due % 1000000000};
        clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
        int64_t now = now_ns();
        long first = sent;
        for (; sent < plan->events && due_ns(plan, sent) <= now; sent++)
            append_entry(server, due_ns(plan, sent), due_ns(plan, sent) / 1000000);
        for (; first < sent; first++) freeReplyObject(reply_of(server));
    }
    redisFree(server);
    return NULL;
}

/* When the entry was due, which is its id in hexadecimal digits (append_entry). */
static int64_t due_of(redisReply *entry) { return strtoll(entry->element[1]->element[3]->str, NULL, 16); }

static void check_acknowledged(redisContext *server, long entries) {
    redisReply *reply = reply_of(server);
    if (reply->integer != entries) fail("XACK", "an entry was not pending");
    freeReplyObject(reply);
}

static int latency(const char *port, long rate, long seconds, const char *path) {
    redisContext *server = connect_to(port);
    FILE *file = fopen(path, "wb");
    if (file == NULL) fail("open", path);
    command(server, "DEL bench:raw");
    command(server, "XGROUP CREATE bench:raw g0 $ MKSTREAM");
    Schedule plan = {port, now_ns() + 100000000, rate, rate * seconds};
    int64_t *noted = calloc(2 * (size_t)plan.events, sizeof *noted);
    if (noted == NULL) fail("memory", "too many events");
    pthread_t producer;
    if (pthread_create(&producer, NULL, produce, &plan) != 0) fail("thread", "cannot be made");
    long received = 0, owed = 0;
    while (received < plan.events) {
        redisAppendCommand(server, "XREADGROUP GROUP g0 raw COUNT %d BLOCK 2000 STREAMS %s >", BATCH, KEY);
        if (owed > 0) check_acknowledged(server, owed);
        redisReply *reply = reply_of(server);
        int64_t now = now_ns();
        if (reply->type != REDIS_REPLY_ARRAY) fail("XREADGROUP", "no entry for two seconds");
        redisReply *entries = reply->element[0]->element[1];
        for (size_t i = 0; i < entries->elements && received < plan.events; i++, received++) {
            noted[2 * received] = due_of(entries->element[i]);
            noted[2 * received + 1] = now - noted[2 * received];
        }
        owed = acknowledge(server, 0, reply);
        freeReplyObject(reply);
    }
    check_acknowledged(server, owed);
    pthread_join(producer, NULL);
    command(server, "DEL bench:raw");
    redisFree(server);
    if (fwrite(noted, 2 * sizeof *noted, (size_t)plan.events, file) != (size_t)plan.events || fclose(file) != 0)
        fail("write", path);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 6 && strcmp(arguments[1], "consume") == 0)
        return consume(arguments[2], atol(arguments[3]), atol(arguments[4]), atol(arguments[5]));
    if (count == 6 && strcmp(arguments[1], "latency") == 0)
        return latency(arguments[2], atol(arguments[3]), atol(arguments[4]), arguments[5]);
    fail("usage", "raw consume PORT EVENTS GROUPS DEPTH | raw latency PORT RATE SECONDS FILE");
    return 1;
}
