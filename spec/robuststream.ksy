# Informative: format.md is the rule. The sections named here are its.
# Kaitai Struct has no search for packets, so this describes a stream without damage that begins with its HEADER.
meta:
  id: robuststream
  title: robuststream, a container for learned image compression
  file-extension: robs
  endian: le
doc: |
  A sequence of packets that check themselves. CRCs are read, not checked. TILE packets are laid out by the HEADER that
  the file begins with.
seq:
  - id: packets
    type: packet
    repeat: eos
instances:
  header:
    value: packets[0].payload.as<header>
types:
  varint:
    doc: Unsigned LEB128 of at most 5 bytes (section 2). The shortest form is not asked for.
    seq:
      - id: groups
        type: u1
        repeat: until
        repeat-until: (_ & 0x80) == 0 or _index == 4
    instances:
      last:
        value: groups.size - 1
      value:
        value: >-
          (groups[0] & 0x7f).as<u8>
          + (last >= 1 ? (groups[1] & 0x7f).as<u8> * 0x80 : 0)
          + (last >= 2 ? (groups[2] & 0x7f).as<u8> * 0x4000 : 0)
          + (last >= 3 ? (groups[3] & 0x7f).as<u8> * 0x200000 : 0)
          + (last >= 4 ? (groups[4] & 0x7f).as<u8> * 0x10000000 : 0)
  packet:
    doc: Section 4.
    seq:
      - id: sync
        contents: [0xb7, 0x52, 0x53]
      - id: kind
        type: u1
        enum: kind
      - id: stream_id
        size: 4
      - id: number
        type: varint
      - id: length
        type: varint
      - id: crc16
        type: u2
      - id: payload
        size: length.value
        type:
          switch-on: kind
          cases:
            kind::header: header
            kind::tile: tile
            kind::index: index
            kind::metadata: metadata
            kind::parity: parity
      - id: crc32c
        type: u4
  header:
    doc: Section 5. What a field says holds for those behind it, so the last field tells the whole header.
    seq:
      - id: major
        type: u1
      - id: minor
        type: u1
      - id: guard
        contents: [0x0d, 0x0a, 0x1a, 0x0a, 0x0d]
      - id: fields
        type: field(_index)
        repeat: eos
    instances:
      mode:
        value: fields.last.mode
      colour:
        value: fields.last.colour
      z_checkpoint:
        value: fields.last.z_checkpoint
      quality:
        value: fields.last.quality
      parity:
        value: fields.last.parity
      checkpoints:
        value: fields.last.checkpoints
      metadata_packets:
        value: fields.last.metadata_packets
  field:
    params:
      - id: position
        type: s4
    seq:
      - id: tag
        type: varint
      - id: size
        type: varint
      - id: content
        size: size.value
        type:
          switch-on: tag.value
          cases:
            1: picture_size
            2: name
            3: number
            4: number
            5: digest
            7: digest
            8: number
            9: number
            11: number
            13: number
            15: number
            23: number
    instances:
      metadata_packets:
        value: 'tag.value == 4 ? content.as<number>.value.value : position > 0 ? _parent.as<header>.fields[position - 1].metadata_packets.as<s4> : 0'
      parity:
        value: 'tag.value == 8 ? content.as<number>.value.value : position > 0 ? _parent.as<header>.fields[position - 1].parity.as<s4> : 0'
      mode:
        value: 'tag.value == 9 ? content.as<number>.value.value : position > 0 ? _parent.as<header>.fields[position - 1].mode.as<s4> : 0'
      colour:
        value: 'tag.value == 11 ? content.as<number>.value.value : position > 0 ? _parent.as<header>.fields[position - 1].colour.as<s4> : 0'
      z_checkpoint:
        value: 'tag.value == 13 ? content.as<number>.value.value : position > 0 ? _parent.as<header>.fields[position - 1].z_checkpoint.as<s4> : 1'
      quality:
        value: 'tag.value == 15 ? content.as<number>.value.value : position > 0 ? _parent.as<header>.fields[position - 1].quality.as<s4> : 0'
      checkpoints:
        value: 'tag.value == 23 ? content.as<number>.value.value : position > 0 ? _parent.as<header>.fields[position - 1].checkpoints.as<s4> : 0'
  picture_size:
    seq:
      - id: width
        type: varint
      - id: height
        type: varint
  name:
    seq:
      - id: utf8
        size-eos: true
  number:
    seq:
      - id: value
        type: varint
  digest:
    seq:
      - id: value
        size: 16
  tile:
    doc: Section 6.
    seq:
      - id: seam
        type: varint
        if: _root.header.z_checkpoint == 1
      - id: crc
        type: u4
        if: _root.header.z_checkpoint == 1
      - id: num_earlier
        type: u1
        if: _root.header.mode == 1
      - id: earlier
        type: u4
        repeat: expr
        repeat-expr: num_earlier
        if: _root.header.mode == 1
      - id: context_digest
        type: u4
      - id: sums
        type: u2
        repeat: expr
        repeat-expr: _root.header.checkpoints
      - id: words
        size-eos: true
  index:
    doc: Section 7.
    seq:
      - id: distances
        type: varint
        repeat: eos
  metadata:
    doc: Section 8. Type 1 is ICC, 2 EXIF, 3 XMP.
    seq:
      - id: type
        type: varint
      - id: part
        type: varint
      - id: parts
        type: varint
      - id: data
        size-eos: true
  parity:
    doc: Section 19.
    seq:
      - id: metadata
        type: varint
      - id: first
        type: varint
      - id: num_sizes
        type: varint
      - id: sizes
        type: packet_size(_index)
        repeat: expr
        repeat-expr: num_sizes.value
      - id: symbol_size
        type: varint
      - id: repair_symbols
        type: varint
      - id: number
        type: varint
      - id: packets
        type: varint
      - id: description_crc
        type: u4
      - id: sums
        type: u2
        repeat: expr
        repeat-expr: num_source_symbols
      - id: symbols
        type: symbol(symbol_size.value)
        repeat: eos
    instances:
      num_source_symbols:
        value: (sizes.last.sum + symbol_size.value - 1) / symbol_size.value
  packet_size:
    params:
      - id: position
        type: s4
    seq:
      - id: size
        type: varint
    instances:
      sum:
        value: 'size.value + (position > 0 ? _parent.as<parity>.sizes[position - 1].sum.as<s4> : 0)'
        doc: Bytes of the block's packets up to this one.
  symbol:
    params:
      - id: size
        type: s4
    seq:
      - id: data
        size: size
      - id: crc16
        type: u2
enums:
  kind:
    0x48: header
    0x54: tile
    0x69: index
    0x6d: metadata
    0x70: parity
