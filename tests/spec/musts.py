"""What would fail if a rule of spec/format.md were broken: for each paragraph or list item with a "must" its section,
words that no other has, and vectors of spec/vectors or tests. Where one has several musts, comments part the names.

test_musts.py sees that nothing is left out or gone.
"""

from __future__ import annotations

MUSTS = {
    "2": {
        "**varint**: unsigned LEB128": [
            "bad-varint",
            "tests/container/test_layout.py::test_varint_not_in_its_shortest_form_is_refused",
            "tests/container/test_layout.py::test_varint_too_large_or_cut_off_is_refused",
            # What holds it breaks the rules: a header, a tile, a packet header, an INDEX, METADATA.
            "tests/container/test_layout.py::test_header_that_breaks_the_rules_is_damage",
            "tests/container/test_tiles.py::test_tile_that_breaks_the_rules_is_none",
            "tests/container/test_flood.py::test_numbers_and_lengths_at_their_limits",
            "tests/container/test_access.py::test_a_front_with_anything_wrong_is_none",
            "tests/container/test_reader.py::test_metadata_that_breaks_the_rules_is_told",
        ],
    },
    "4": {
        "A kind with bit 5 (0x20) clear is critical": [
            "unsupported-critical-kind",
            "tests/container/test_reader.py::test_unknown_critical_packet_is_refused_by_name",
            # Ancillary kinds.
            "good-newer-minor",
            "tests/container/test_reader.py::test_unknown_ancillary_packet_is_skipped",
        ],
        "must not use a length before the CRC-16 holds": [
            "tests/container/test_layout.py::test_packet_header_damaged_in_any_bit_or_cut_anywhere_is_none",
            "tests/container/test_flood.py::test_events_are_those_of_the_plain_search",
            # A length above 2^20.
            "tests/container/test_layout.py::test_payload_length_above_the_limit_is_not_believed",
            "tests/container/test_flood.py::test_numbers_and_lengths_at_their_limits",
        ],
        "A writer must give HEADER and INDEX the number 0": [
            "tests/container/test_writer.py::test_whole_stream_equals_one_built_by_hand",
            # A reader.
            "bad-numbered-header",
            "tests/container/test_reader.py::test_numbers_of_header_and_index_mean_nothing",
            "tests/container/test_repair.py::test_a_header_of_any_number",
        ],
    },
    "5": {
        "Tags must rise strictly": [
            "bad-tags",
            # Used up by its content as well.
            "tests/container/test_layout.py::test_header_that_breaks_the_rules_is_damage",
        ],
        "A tag with bit 0 set is critical": [
            "unsupported-critical-tag",
            "tests/container/test_layout.py::test_unknown_critical_field_is_refused_by_its_number",
            # Even tags.
            "good-newer-minor",
            "tests/container/test_layout.py::test_unknown_ancillary_field_is_skipped",
        ],
        "A writer must write fields in rising order of tags": [
            # Order, defaults, reserved tags.
            "tests/container/test_layout.py::test_fields_are_written_in_order_and_none_at_its_default",
            # A reader.
            "good-defaults",
            "tests/container/test_layout.py::test_field_at_its_default_is_read",
        ],
        "A writer must cut a name that is too long": [
            "tests/container/test_layout.py::test_long_name_is_cut_at_a_character",
            # A reader.
            "tests/container/test_layout.py::test_of_a_name_64_bytes_are_read_and_what_is_no_text_is_replaced",
        ],
        "A reader must refuse: a major version other than 1": [
            "unsupported-major",
            "unsupported-mode",
            "unsupported-colour",
            "unsupported-z-checkpoints",
            "bad-no-size",
            "bad-many-checkpoints",
            "tests/container/test_layout.py::test_another_major_version_is_refused_by_its_number_whatever_follows",
            "tests/container/test_layout.py::test_value_of_a_newer_release_is_refused",
            "tests/container/test_layout.py::test_unknown_colour_is_a_newer_format",
            "tests/container/test_layout.py::test_header_that_breaks_the_rules_is_damage",
        ],
        "A decoder must refuse a header whose digests": [
            "bad-model",
            "tests/coding/test_opening.py::test_a_header_that_does_not_fit_its_model",
        ],
    },
    "6": {
        "A tile whose packet is intact still breaks": [
            "bad-tile-format",
            "bad-checkpoint",
            "bad-tile-number",
            "tests/container/test_tiles.py::test_tile_that_breaks_the_rules_is_none",
            "tests/container/test_tiles.py::test_tile_of_another_place_stream_or_model_is_none",
            "tests/container/test_tiles.py::test_a_tile_has_at_most_11_earlier_digests",
        ],
        "**Salvage.**": [
            "tests/test_latents.py::test_a_digest_that_no_piece_of_y_proves_is_not_used",
            "tests/test_codec.py::test_native_mode_takes_no_symbol_of_y_without_a_proven_digest",
        ],
    },
    "7": {
        "must not trust it: what it finds there": [
            "tests/container/test_access.py::test_a_front_with_anything_wrong_is_none",
            "tests/container/test_access.py::test_a_tile_with_anything_wrong_is_none",
            "tests/test_region.py::test_an_index_that_lies_is_found_out",
        ],
        "**Reading a part.**": [
            # Intact, of the stream, of the index.
            "tests/container/test_access.py::test_a_front_with_anything_wrong_is_none",
            "tests/container/test_access.py::test_a_tile_with_anything_wrong_is_none",
            # No overlap.
            "tests/container/test_access.py::test_tiles_that_overlap_are_none",
            "tests/test_region.py::test_tiles_inside_tiles_are_not_read_again_and_again",
            # Else a scan.
            "tests/test_region.py::test_a_damaged_front_has_the_file_scanned",
            "tests/test_region.py::test_an_index_that_lies_is_found_out",
            # Nothing of the stream.
            "tests/test_region.py::test_only_the_tiles_of_the_region_are_read",
        ],
    },
    "8": {
        "A writer must split a block into parts of 16384 bytes": [
            "good-metadata",
            "tests/container/test_writer.py::test_metadata_is_split_and_comes_in_the_order_of_types",
        ],
        "it must leave the block out": [
            "bad-metadata",
            "tests/container/test_reader.py::test_metadata_with_a_part_gone_is_left_out_and_told",
        ],
    },
    "9": {
        "A writer must write canonical order with all tiles": [
            "tests/container/test_writer.py::test_whole_stream_equals_one_built_by_hand",
            "tests/container/test_writer.py::test_canonical_order_of_several_tiles",
            "tests/container/test_writer.py::test_a_header_is_never_farther_than_the_interval",
            "tests/container/test_writer.py::test_32768_bytes_may_stand_between_headers",
            "tests/container/test_writer.py::test_tiles_must_be_all_and_in_order",
            "tests/container/test_parity.py::test_order_and_reading",
            # A reader.
            "bad-swapped",
            "tests/container/test_reader.py::test_every_two_packets_swapped",
        ],
    },
    "10": {
        "A reader must find what this search finds": [
            "bad-nested",
            "tests/container/test_flood.py::test_events_are_those_of_the_plain_search",
            "tests/container/test_flood.py::test_forged_headers_cost_a_constant_for_each_byte",
            "tests/container/test_flood.py::test_what_is_too_little_for_a_flood_costs_a_constant_for_each_byte",
        ],
        "must not make the time more than linear: prefix CRCs": [
            "tests/container/test_flood.py::test_forged_headers_cost_a_constant_for_each_byte",
            "tests/spec/test_reference_decoder.py::test_hostile_scan_is_linear",
        ],
        "**No header.**": [
            "bad-not-a-stream",
            "bad-no-header",
            "tests/container/test_reader.py::test_empty_input_and_other_files_are_not_ours",
            "tests/container/test_reader.py::test_tiles_without_any_header_are_counted",
        ],
        "**Declared sizes.**": [
            # Width and height.
            "bad-large",
            "tests/test_codec.py::test_declared_sizes_are_checked_before_anything_is_made",
            # What the container takes.
            "tests/container/test_hostile.py::test_declared_size_allocates_nothing",
            "tests/container/test_hostile.py::test_damaged_packets_of_distinct_names_take_few_bytes",
            # No list of all tiles.
            "tests/container/test_hostile.py::test_tiles_are_listed_where_the_file_has_16_bytes_for_each",
            # The padded size.
            "tests/test_codec.py::test_padding_cannot_get_around_the_limit",
        ],
        "A decoder must refuse a stream of which neither": [
            "bad-no-tile",
            "tests/test_codec.py::test_nothing_left",
            "tests/test_correction.py::test_nothing_but_a_false_candidate_is_nothing",
        ],
    },
    "10.1": {
        "Who guesses must keep to these rules": [
            # Those below, and all of them together.
            "bad-flipped-bit",
            "tests/test_correction.py::test_heavier_damage_that_flips_explain_is_not_accepted",
            "tests/test_codec.py::test_random_damage_is_never_silent",
        ],
        "At most two bits of a packet": [
            "tests/container/test_correction.py::test_three_flips_are_too_many_wherever_they_are",
            "tests/container/test_correction.py::test_packets_of_other_streams_and_unwanted_ones_are_left_alone",
            "tests/container/test_correction.py::test_an_id_of_one_bit_more_is_another_streams",
            "tests/container/test_correction.py::test_a_packet_must_lie_inside_its_gap",
            "tests/container/test_correction.py::test_what_heavier_damage_looks_like",
            # Beside an intact one.
            "tests/container/test_reader.py::test_an_intact_copy_is_better_than_a_corrected_one",
        ],
        "and the number of explanations that are decoded limited": [
            "tests/container/test_correction.py::test_work_is_linear_whatever_the_bytes_say",
            "tests/container/test_correction.py::test_too_many_explanations_are_none",
        ],
        "**TILE.** Section 6 must hold": [
            "tests/container/test_reader.py::test_a_corrected_tile_that_breaks_the_rules_is_none",
            # Every explanation.
            "tests/test_correction.py::test_of_two_that_decode_neither_is_taken",
            # All that makes a tile exact.
            "tests/test_correction.py::test_a_refuted_tile_falls_back_to_its_z",
            "tests/test_correction.py::test_heavier_damage_that_flips_explain_is_not_accepted",
            # Two bits.
            "tests/test_correction.py::test_a_pair_is_not_taken_where_the_tile_decodes_as_it_stands",
            "tests/test_correction.py::test_escaped_values_are_not_bound_and_so_not_guessed_at",
        ],
        "**Stream id.** Where all tiles are intact or repaired then": [
            "tests/test_correction.py::test_the_stream_id_has_the_last_word",
        ],
    },
    "10.2": {
        "Who does so must keep to these rules": [
            # Those below, and that nothing is called proven that is not.
            "tests/test_borrowing.py::test_the_same_picture",
            "tests/test_borrowing.py::test_another_size_of_as_many_tiles_is_never_called_exact",
            "tests/container/test_borrowing.py::test_with_a_tile_lost_nothing_is_proven",
            "tests/container/test_borrowing.py::test_a_header_of_its_own_is_used",
        ],
        "The header must be refused where an intact TILE": [
            "tests/container/test_borrowing.py::test_a_header_that_does_not_fit",
            # A decode.
            "tests/test_borrowing.py::test_another_model_or_mode_is_refused",
        ],
        "A header that is borrowed without proof": [
            "tests/container/test_borrowing.py::test_a_proven_header_is_written_back",
        ],
    },
    "10.3": {
        "A solution is a guess among n possible ones": [
            "tests/transfers/test_lineends.py::test_two_solutions_are_none",
            "tests/transfers/test_lineends.py::test_a_tile_is_held_to_its_format",
            "tests/transfers/test_lineends.py::test_a_header_is_held_to_its_format",
            # Repaired, never exact.
            "tests/transfers/test_diagnosis.py::test_tiles_that_a_crc_gave_back_are_restored_and_whole_ones_are_not",
            "tests/transfers/test_diagnosis.py::test_pictures",
            # Not written.
            "tests/container/test_repairing.py::test_a_guess_is_not_written_as_though_it_had_been_read",
        ],
        "The work must be linear in the file's size, and what is unpacked": [
            "tests/transfers/test_lineends.py::test_memory_is_linear_in_the_file",
            "tests/transfers/test_lineends.py::test_the_work_is_bounded",
            "tests/transfers/test_insertions.py::test_what_a_crc_cannot_tell_is_not_tried",
            "tests/transfers/test_diagnosis.py::test_what_swells_is_not_unpacked",
        ],
    },
    "11": {
        "What it trusts must not hang on what it keeps": [
            "tests/container/test_reader.py::test_a_conflict_is_not_forgotten_among_many_findings",
            "tests/container/test_reader.py::test_of_each_rule_the_first_finding_is_kept",
        ],
        "A decoder must not call a tile exact unless": [
            "bad-context-desync",
            "bad-entropy",
            "bad-tile-crc",
            "tests/test_codec.py::test_desync_is_found_before_symbols_are_trusted",
            "tests/test_codec.py::test_words_that_do_not_end_right_are_not_trusted",
            "tests/test_correction.py::test_flips_in_every_tile_are_put_right",
            # Native mode: where digests are proven, and compared.
            "tests/test_codec.py::test_native_mode_takes_no_symbol_of_y_without_a_proven_digest",
            "tests/test_latents.py::test_a_digest_that_is_proven_is_compared",
            "tests/test_latents.py::test_what_breaks_off_is_compared_as_well_in_native_mode",
        ],
    },
    "12": {
        "A loader must check: n >= 3": [
            "tests/entropy/test_tables.py::test_invalid_tables_are_refused_for_their_reason",
            "tests/spec/test_bad_vectors.py::test_models",
            "tests/model/test_frozen.py::test_bad_models_are_refused_by_name",
        ],
    },
    "13": {
        "Any words at all must end in symbols": [
            "tests/entropy/test_rans.py::test_any_bytes_end_in_symbols_or_a_status",
            "tests/entropy/test_rans.py::test_cut_at_every_word_is_truncated_and_keeps_what_came_before",
            "tests/entropy/test_rans.py::test_more_than_seven_digits_is_escape",
            "tests/entropy/test_rans.py::test_symbol_beyond_its_range",
        ],
        "**End state.**": [
            "bad-entropy",
            # All words.
            "tests/entropy/test_rans.py::test_words_too_many_are_not_complete",
            # The state.
            "tests/entropy/test_rans.py::test_a_state_that_is_another_at_the_end_is_not_complete",
        ],
        "An encoder must code a symbol in range of its row without escape": [
            "tests/entropy/test_rans.py::test_bytes_equal_pythons_own_integers",
            "tests/entropy/test_rans.py::test_bytes_equal_compressai",
            # Symbols beyond 2^13.
            "tests/priors/test_walk.py::test_limits_at_extreme_means",
            "tests/priors/test_variable_rate.py::test_quantisers_limit_what_an_encoder_codes",
        ],
        "**Order and seam.**": [
            "tests/priors/test_walk.py::test_seam_in_another_place",
            "tests/entropy/test_coder.py::test_a_seam_in_another_place_is_told",
            "tests/test_codec.py::test_z_that_does_not_decode_is_missing",
        ],
    },
    "14": {
        "Every decoder must get the same integers": [
            "good-mean-scale-hyperprior",
            "good-raster-scan",
            "tests/networks/test_exact.py::test_one_convolution_equals_int64",
            "tests/networks/test_exact.py::test_whole_networks_equal_int64",
            "tests/networks/test_exact.py::test_networks_with_skips_equal_int64",
            "tests/networks/test_exact.py::test_leaky_relu_equals_pythons_integers",
        ],
        "A loader must check the bounds": [
            "tests/networks/test_fixedpoint.py::test_what_is_not_exact_is_refused",
            "tests/networks/test_fixedpoint.py::test_sums_of_limbs_stay_in_32_bits",
            "tests/model/test_frozen.py::test_bad_models_are_refused_by_name",
        ],
    },
    "15.2": {
        "It must choose them so that": [
            "tests/priors/test_walk.py::test_limits_at_extreme_means",
            "tests/priors/test_walk.py::test_extreme_targets_are_limited_so_that_the_decoder_accepts_them",
            "tests/priors/test_variable_rate.py::test_quantisers_limit_what_an_encoder_codes",
        ],
    },
    "16": {
        "A decoder must compute the digest from what it decoded with": [
            "bad-context-desync",
            "tests/priors/test_walk.py::test_parameters_that_differ_by_one_are_desync",
            # A symbol of y.
            "tests/test_codec.py::test_desync_is_found_before_symbols_are_trusted",
        ],
        "then both sides must have them": [
            "tests/test_native.py::test_another_live_module_is_another_model",
        ],
        "A decoder must compare each before it decodes a symbol": [
            # Before its symbols; from there on; another number of digests.
            "tests/priors/test_walk.py::test_native_digests_are_compared_before_their_symbols",
            "tests/test_native.py::test_large_drift_is_contained_and_told",
        ],
        "**Repair** (a decoder's choice)": [
            "tests/priors/test_repair.py::test_equations",
            "tests/priors/test_repair.py::test_20_unknowns_are_the_most",
            # The end state.
            "tests/test_native.py::test_repaired_rows_whose_string_does_not_end_are_no_repaired_tile",
        ],
    },
    "18": {
        "A reader must refuse another major version": [
            "unsupported-major",
            "tests/container/test_layout.py::test_another_major_version_is_refused_by_its_number_whatever_follows",
        ],
        "A reader must read any minor version": [
            "good-newer-minor",
            "tests/container/test_layout.py::test_newer_minor_version_is_read",
            "tests/container/test_reader.py::test_newer_versions",
        ],
    },
    "19": {
        "A reader must not use a description that breaks this": [
            "tests/container/test_parity.py::test_impossible_descriptions",
            "tests/container/test_parity.py::test_every_bit_of_a_description_is_covered",
            # What it allocates.
            "bad-wide-description",
            "tests/container/test_repair.py::test_forged_descriptions_allocate_nothing",
            "tests/container/test_parity.py::test_nothing_is_made_before_there_are_enough_symbols",
        ],
        "It must write the same blocks for the same packets": [
            "good-parity",
            "tests/spec/test_vectors.py::test_are_reproduced_byte_for_byte",
            "tests/container/test_parity.py::test_payload_written_out",
        ],
        "Packets so restored must have their CRCs right": [
            "tests/container/test_repair.py::test_two_wrong_symbols_with_the_right_sums_are_not_taken",
            # Kind, stream id and number.
            "tests/container/test_repair.py::test_a_packet_solved_for_must_be_what_its_ordinal_says",
        ],
        "The work must be linear in the size of the copies": [
            "tests/container/test_repair.py::test_only_symbols_inside_a_copy_are_looked_for",
            "tests/container/test_repair.py::test_a_search_for_wrong_symbols_ends",
            "tests/container/test_repair.py::test_a_packet_repeated_without_end_has_few_places",
        ],
        "What is not whole must keep what was found": [
            "tests/container/test_repairing.py::test_a_repaired_file_is_never_worse",
            "tests/container/test_repairing.py::test_with_a_tile_gone_nothing_proves_the_others",
            "tests/container/test_repairing.py::test_what_is_salvaged_stays",
            # What is put right before.
            "tests/container/test_repairing.py::test_flipped_bits_in_every_tile_are_put_right",
        ],
        "another HEADER than the one that counts": ["bad-parity-header"],
    },
}
