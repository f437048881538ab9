import static java.util.Objects.requireNonNullElse;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.NullNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorDetailsProto;
import io.github.falrpc.Errors;
import io.github.falrpc.Falrpc;
import io.github.falrpc.v1.*;
import io.github.falrpc.v1.FalServiceGrpc.FalServiceBlockingStub;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;

/**
 * Makes the calls that come as JSON, one a line, and writes what they gave, one a line.
 *
 * <p>A test compares that between the languages. All that is read from calls is read with falrpc's helper.
 */
public class Main {
  private static final ObjectMapper JSON = JsonMapper.builder(
          JsonFactory.builder().streamReadConstraints(
              StreamReadConstraints.builder().maxStringLength(Integer.MAX_VALUE).build()).build())
      .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
      .build();
  private static final JsonFormat.TypeRegistry TYPES =
      JsonFormat.TypeRegistry.newBuilder().add(ErrorDetailsProto.getDescriptor().getMessageTypes()).build();
  private static final Logger GRPC_LOG = Logger.getLogger("io.grpc");

  private final FalServiceBlockingStub fal;

  private Main(FalServiceBlockingStub fal) {
    this.fal = fal;
  }

  public static void main(String[] arguments) {
    GRPC_LOG.setLevel(Level.SEVERE); // failures are told as answers
    try {
      ManagedChannel channel = Falrpc.channel(System.getenv("FALRPC_ADDRESS")).build();
      String token = System.getenv("FALRPC_TOKEN");
      Main caller = new Main(
          FalServiceGrpc.newBlockingStub(channel).withCallCredentials(token == null ? null : Falrpc.bearer(token)));
      var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
      PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
      for (String line; (line = lines.readLine()) != null; ) {
        out.println(caller.call(JSON.readTree(line)));
      }
      channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
    } catch (Exception e) {
      System.err.println("caller: " + e.toString().replaceAll("\\s+", " "));
      System.exit(1);
    }
  }

  private ObjectNode call(JsonNode asked) throws IOException {
    ObjectNode told = JSON.createObjectNode();
    ArrayNode messages = told.putArray("messages");
    ArrayNode outputs = told.putArray("outputs");
    int leaveAfter = asked.path("leave_after").asInt(0);
    Context.CancellableContext context = Context.current().withCancellation();
    Context before = context.attach();
    try {
      Iterator<? extends Message> answers = answers(asked);
      while (answers.hasNext()) {
        Message answer = answers.next();
        messages.add(json(answer));
        outputOf(answer).map(Main::decodedAndBack).ifPresent(outputs::add);
        if (messages.size() == leaveAfter) {
          break; // and the stream ends with its context
        }
      }
      told.put("code", "OK");
    } catch (StatusRuntimeException e) {
      addFailure(told, e);
    } finally {
      context.detach(before);
      context.cancel(null);
    }
    return told;
  }

  private Iterator<? extends Message> answers(JsonNode asked) throws IOException {
    long milliseconds = (long) (asked.path("timeout_seconds").asDouble(60) * 1000);
    FalServiceBlockingStub stub = fal.withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS);
    JsonNode requests = asked.get("requests");
    JsonNode request = requests.path(0);
    return switch (asked.get("method").asText()) {
      case "Run" -> one(stub.run(read(request, RunRequest.newBuilder()).build()));
      case "Submit" -> one(stub.submit(read(request, SubmitRequest.newBuilder()).build()));
      case "Status" -> one(stub.status(read(request, StatusRequest.newBuilder()).build()));
      case "StreamStatus" -> stub.streamStatus(read(request, StreamStatusRequest.newBuilder()).build());
      case "Result" -> one(stub.result(read(request, ResultRequest.newBuilder()).build()));
      case "Cancel" -> one(stub.cancel(read(request, CancelRequest.newBuilder()).build()));
      case "Subscribe" -> stub.subscribe(read(request, SubscribeRequest.newBuilder()).build());
      case "Stream" -> stub.stream(read(request, StreamRequest.newBuilder()).build());
      case "StreamWorkflow" -> stub.streamWorkflow(read(request, StreamWorkflowRequest.newBuilder()).build());
      case "Upload" -> one(upload(stub, requests));
      case "UploadFile" -> {
        UploadHeader header = read(request, UploadHeader.newBuilder()).build();
        yield one(Falrpc.upload(stub, header, new Zeros(asked.get("bytes").asLong())));
      }
      default -> throw new IOException("no such method: " + asked.get("method"));
    };
  }

  private static UploadResponse upload(FalServiceBlockingStub stub, JsonNode requests) throws IOException {
    var call = ClientCalls.blockingClientStreamingCall(
        stub.getChannel(), FalServiceGrpc.getUploadMethod(), stub.getCallOptions());
    try {
      for (JsonNode request : requests) {
        if (!call.write(read(request, UploadRequest.newBuilder()).build())) {
          break; // the call has ended, and reading tells how
        }
      }
      call.halfClose();
      UploadResponse response = call.read();
      call.hasNext(); // waits for the status
      return response;
    } catch (StatusException e) {
      throw e.getStatus().asRuntimeException(e.getTrailers());
    } catch (InterruptedException e) {
      throw new IOException(e);
    } finally {
      call.cancel("a request could not be read", null); // does nothing after the status
    }
  }

  private static Iterator<Message> one(Message answer) {
    return List.of(answer).iterator();
  }

  private static Optional<Output> outputOf(Message answer) {
    Output output = Output.getDefaultInstance();
    if (answer instanceof RunResponse run) {
      output = run.getOutput();
    } else if (answer instanceof ResultResponse result) {
      output = result.getOutput();
    } else if (answer instanceof SubscribeResponse subscribed) {
      output = subscribed.getResult().getOutput();
    } else if (answer instanceof StreamResponse streamed) {
      output = streamed.getEvent();
    } else if (answer instanceof StreamWorkflowResponse step) {
      output = step.hasOutput() ? step.getOutput().getOutput() : step.getCompletion().getOutput();
    }
    return output.equals(Output.getDefaultInstance()) ? Optional.empty() : Optional.of(output);
  }

  /** The output as it is after it was a Java value. */
  private static JsonNode decodedAndBack(Output output) {
    try {
      return TextNode.valueOf(Falrpc.input(Falrpc.decode(output, Object.class)).getJson());
    } catch (UncheckedIOException e) {
      return NullNode.instance;
    }
  }

  private static void addFailure(ObjectNode told, StatusRuntimeException failure) throws IOException {
    told.put("code", failure.getStatus().getCode().name());
    told.put("message", requireNonNullElse(failure.getStatus().getDescription(), ""));
    told.put("reason", Errors.reason(failure)).set("metadata", JSON.valueToTree(Errors.metadata(failure)));
    ArrayNode violations = told.putArray("violations");
    for (FieldViolation violation : Errors.fieldViolations(failure)) {
      violations.addObject()
          .put("field", violation.getField())
          .put("description", violation.getDescription())
          .put("reason", violation.getReason());
    }
    told.put("retry_seconds", Errors.retryAfter(failure).map(delay -> delay.toNanos() / 1e9).orElse(null));
    told.put("safe_to_repeat", Errors.safeToRepeat(failure));
    ArrayNode details = told.putArray("details");
    for (Any detail : StatusProto.fromThrowable(failure).getDetailsList()) {
      details.add(json(detail));
    }
  }

  private static <B extends Message.Builder> B read(JsonNode json, B builder) throws IOException {
    JsonFormat.parser().merge(json.toString(), builder);
    return builder;
  }

  private static JsonNode json(Message message) throws IOException {
    return JSON.readTree(JsonFormat.printer().usingTypeRegistry(TYPES).print(message));
  }

  /** So many zero bytes, given in odd portions. */
  private static final class Zeros extends InputStream {
    private long left;
    private int portion = 1;

    Zeros(long count) {
      left = count;
    }

    @Override
    public int read() {
      return left-- > 0 ? 0 : -1;
    }

    @Override
    public int read(byte[] buffer, int offset, int length) {
      if (left <= 0) {
        return -1;
      }
      portion = portion * 7 % 1_000_003;
      int count = (int) Math.min(left, Math.min(length, portion));
      Arrays.fill(buffer, offset, offset + count, (byte) 0);
      left -= count;
      return count;
    }
  }
}
