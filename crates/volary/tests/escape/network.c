/* Goes for the network: addresses, kinds of sockets, the door's own port. */
static int dial(int family, const char *address, int port, int kind) {
    struct sockaddr_storage to = {0};
    socklen_t length;
    if (family == AF_INET) {
        struct sockaddr_in *in = (void *)&to;
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        inet_pton(AF_INET, address, &in->sin_addr);
        length = sizeof *in;
    } else {
        struct sockaddr_in6 *in = (void *)&to;
        *in = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        inet_pton(AF_INET6, address, &in->sin6_addr);
        length = sizeof *in;
    }
    int s = socket(family, kind, 0);
    if (s < 0) return -1;
    int done = connect(s, (void *)&to, length);
    if (done == 0 && kind == SOCK_DGRAM) done = send(s, "x", 1, 0) < 0 ? -1 : 0;
    int kept = errno;
    close(s);
    errno = kept;
    return done;
}

/* TCP with data in its first packet, which needs no connect(). */
static int dial_fast(const char *address, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0) return -1;
    int done = sendto(s, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (void *)&to, sizeof to) < 0 ? -1 : 0;
    int kept = errno;
    close(s);
    errno = kept;
    return done;
}

/* `number` is that of an address of the loopback: 127.0.0.1 is the first. */
static int rival(int family, int option, int port, int number) {
    int s = socket(family, SOCK_STREAM, 0), on = 1, done;
    if (s < 0) return -1;
    if (option) setsockopt(s, SOL_SOCKET, option, &on, sizeof on);
    if (family == AF_INET) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000000 + number)};
        done = bind(s, (void *)&at, sizeof at);
    } else {
        struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        done = bind(s, (void *)&at, sizeof at);
    }
    if (done == 0) done = listen(s, 1);
    return done;
}

static int local(const char *name, size_t length, int kind) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, name, length);
    int s = socket(AF_UNIX, kind, 0);
    if (s < 0) return -1;
    int done = connect(s, (void *)&to, offsetof(struct sockaddr_un, sun_path) + length);
    int kept = errno;
    close(s);
    errno = kept;
    return done;
}

int main(int argc, char **argv) {
    char abstract[100] = {0};
    int named = snprintf(abstract + 1, sizeof abstract - 1, "%s", argv[1]);
    const char *api = argv[2], *cable = argv[3], *in_tmp = argv[4], *in_run = argv[5];
    int console = atoi(argv[6]);

    TRY("control-door", dial(AF_INET, "127.0.0.1", 8080, SOCK_STREAM));
    TRY("control-local-pair", ({ int pair[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, pair); }));
    TRY("control-listen", rival(AF_INET, 0, 8081, 1));

    TRY("host-loopback", dial(AF_INET, "127.0.0.1", console, SOCK_STREAM));
    TRY("metadata", dial(AF_INET, "169.254.169.254", 80, SOCK_STREAM));
    TRY("metadata-at-the-doors-port", dial(AF_INET, "169.254.169.254", 8080, SOCK_STREAM));
    TRY("public-tcp", dial(AF_INET, "198.51.100.7", 443, SOCK_STREAM));
    TRY("public-tcp-at-the-doors-port", dial(AF_INET, "198.51.100.7", 8080, SOCK_STREAM));
    TRY("public-tcp-fast-open", dial_fast("198.51.100.7", 443));
    TRY("private-tcp-at-the-doors-port", dial(AF_INET, "10.0.0.1", 8080, SOCK_STREAM));
    TRY("public-udp", dial(AF_INET, "198.51.100.7", 443, SOCK_DGRAM));
    TRY("public-dns", dial(AF_INET, "9.9.9.9", 53, SOCK_DGRAM));
    TRY("broadcast", dial(AF_INET, "224.0.0.251", 5353, SOCK_DGRAM));
    TRY("public-ipv6", dial(AF_INET6, "2001:db8::7", 8080, SOCK_STREAM));
    TRY("public-ipv6-udp", dial(AF_INET6, "2001:db8::7", 53, SOCK_DGRAM));
    TRY("link-local-ipv6", dial(AF_INET6, "fe80::1", 8080, SOCK_STREAM));
    TRY("mapped-ipv4", dial(AF_INET6, "::ffff:169.254.169.254", 8080, SOCK_STREAM));
    struct addrinfo *answer = 0;
    TRY("dns-name-answers", getaddrinfo("example.com", "80", 0, &answer) == 0 ? 0 : (errno = ENOENT, -1));

    TRY("host-abstract-socket", local(abstract, named + 1, SOCK_STREAM));
    TRY("host-api-socket", local(api, strlen(api) + 1, SOCK_STREAM));
    TRY("host-cable-socket", local(cable, strlen(cable) + 1, SOCK_SEQPACKET));
    TRY("host-socket-in-tmp", local(in_tmp, strlen(in_tmp) + 1, SOCK_STREAM));
    TRY("host-socket-in-run", local(in_run, strlen(in_run) + 1, SOCK_STREAM));

    TRY("icmp", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    TRY("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    TRY("raw-any", socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, 255));
    TRY("raw-ipv6", socket(AF_INET6, SOCK_RAW, 58));
    TRY("packet", socket(AF_PACKET, SOCK_RAW, htons(3)));
    TRY("packet-old", socket(AF_INET, 10 /* SOCK_PACKET */, htons(3)));
    TRY("netlink-route", socket(AF_NETLINK, SOCK_RAW, 0));
    TRY("netlink-audit", socket(AF_NETLINK, SOCK_DGRAM, 9));
    TRY("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    TRY("alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    TRY("bluetooth", socket(AF_BLUETOOTH, SOCK_RAW, 1));
    TRY("xdp", socket(AF_XDP, SOCK_RAW, 0));
    TRY("can", socket(AF_CAN, SOCK_RAW, 1));
    TRY("tipc", socket(AF_TIPC, SOCK_STREAM, 0));
    TRY("mptcp", socket(AF_INET, SOCK_STREAM, 262));
    TRY("sctp", socket(AF_INET, SOCK_STREAM, 132));
    TRY("pair-netlink", ({ int pair[2]; socketpair(AF_NETLINK, SOCK_RAW, 0, pair); }));

    TRY("rival", rival(AF_INET, 0, 8080, 1));
    TRY("rival-reuse-port", rival(AF_INET, SO_REUSEPORT, 8080, 1));
    TRY("rival-reuse-address", rival(AF_INET, SO_REUSEADDR, 8080, 1));
    TRY("rival-elsewhere", rival(AF_INET, 0, 8080, 2));
    TRY("rival-elsewhere-reuse-port", rival(AF_INET, SO_REUSEPORT, 8080, 2));
    TRY("rival-elsewhere-reuse-address", rival(AF_INET, SO_REUSEADDR, 8080, 2));
    TRY("rival-ipv6", rival(AF_INET6, 0, 8080, 0));
    int interfaces = socket(AF_INET, SOCK_DGRAM, 0);
    TRY("interface-up", ({
        struct { char name[16]; short flags; char rest[22]; } ask = {"lo", 0x41, {0}};
        ioctl(interfaces, 0x8914 /* SIOCSIFFLAGS */, &ask);
    }));
    TRY("route-add", ({ char route[120] = {0}; ioctl(interfaces, 0x890b /* SIOCADDRT */, route); }));
    return 0;
}
