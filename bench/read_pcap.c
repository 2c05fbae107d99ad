/*
 * read_pcap.c: a capture read by libpcap, packet by packet, with a word of each looked at: what a program that stands
 * on that library takes before it has done anything.
 *
 *   read_pcap FILE
 */
#include <pcap/pcap.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void look(u_char *argument, const struct pcap_pkthdr *header, const u_char *bytes)
{
    uint64_t *kept = (uint64_t *)(void *)argument;
    uint32_t word = 0;

    if (header->caplen >= 34)
        memcpy(&word, bytes + 30, sizeof word);
    kept[0]++;
    kept[1] += word;
}

int main(int argc, char **argv)
{
    char error[PCAP_ERRBUF_SIZE];
    uint64_t kept[2] = {0, 0};
    pcap_t *file = argc == 2 ? pcap_open_offline(argv[1], error) : NULL;

    if (!file || pcap_loop(file, -1, look, (u_char *)(void *)kept) < 0) {
        fprintf(stderr, "read_pcap: %s\n", argc != 2 ? "usage: read_pcap FILE" : file ? pcap_geterr(file) : error);
        return 1;
    }
    pcap_close(file);
    printf("%llu packets, %llx\n", (unsigned long long)kept[0], (unsigned long long)kept[1]);
    return 0;
}
