/* Makes calls by their numbers, each in a child of its own: an argument of this program is "name number first second third fourth". */
int main(int argc, char **argv) {
    TRY("control-getpid", syscall(SYS_getpid));
    for (int n = 1; n < argc; n++) {
        char name[64];
        unsigned long call, first, second, third, fourth;
        if (sscanf(argv[n], "%63s %lu %lu %lu %lu %lu", name, &call, &first, &second, &third, &fourth) != 6) return 1;
        CHILD(name, syscall(call, first, second, third, fourth, 0, 0));
    }
    return 0;
}
